"""The one exception whose message is meant for the user: one line that says what to do next."""

import contextlib
import sys
from collections.abc import Iterator


class UserError(Exception):
    """Something the user can mend. The message is one line and contains the fix.

    Commands print it without a traceback and exit with status 1; library callers can catch it.
    """


class Stopped(UserError):
    """A run was asked to stop, has saved its state, and says how to go on. No mistake: exit status 130."""


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turns a `UserError` into one line on stderr and exit status 1, and Ctrl-C into status 130."""
    try:
        yield
    except Stopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
