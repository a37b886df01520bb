"""The exceptions whose message is meant for the user: one line that contains the fix."""

import contextlib
import sys
from collections.abc import Iterator


class UserError(Exception):
    """A mistake that the user can correct; the message is one line and contains the fix.

    Commands print it without a traceback and exit with status 1; library callers can catch it.
    """


class Stopped(UserError):  # noqa: N818 (not an error of the user or the program)
    """A run that was asked to stop, with its state saved; the message contains the resume command.

    This is no mistake: commands exit with status 130, as after Ctrl-C.
    """


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turns a `UserError` into one line on stderr and an exit status.

    The status is 1 for a mistake, and 130 for `Stopped` and Ctrl-C.
    """
    try:
        yield
    # Before UserError, of which Stopped is one.
    except (Stopped, KeyboardInterrupt) as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        sys.exit(130)  # 128 + SIGINT, as shells report it
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
