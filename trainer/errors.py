"""The exceptions whose message is meant for the user: one line that contains the fix."""

import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn

BROKEN_PIPE = 141
"""Exit status where the reader of the output has gone: 128 + SIGPIPE, as shells report it."""


class UserError(Exception):
    """A mistake that the user can correct; the message is one line and contains the fix.

    Commands print it without a traceback and exit with status 1; library callers can catch it.
    """


class Stopped(UserError):  # noqa: N818 (not an error of the user or the program)
    """A run that was asked to stop, with its state saved; the message contains the resume command.

    This is no mistake: commands exit with status 130, as after Ctrl-C.
    """


class OutputClosedError(UserError):
    """The reader of a table on standard output has gone, as with `| head`.

    Commands end quietly, with the status of a broken pipe.
    """


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turns `UserError` and `OSError` into one line and an exit status.

    The status is 1 for a mistake, 130 for `Stopped` and Ctrl-C, and 141 for a closed output.
    """
    try:
        yield
    # Before UserError, of which Stopped is one.
    except (Stopped, KeyboardInterrupt) as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        sys.exit(130)  # 128 + SIGINT, as shells report it
    except OutputClosedError:
        sys.exit(BROKEN_PIPE)
    except UserError as error:
        _exit(str(error))
    except OSError as error:
        # A full disk, a folder of somebody else, no folder for temporary files.
        if error.errno is None:  # A library's own words.
            _exit(str(error) or type(error).__name__)
        path = f"{error.filename}: " if error.filename is not None else ""
        _exit(
            f"{path}{error.strerror}; check permissions and free space (TMPDIR names the folder of "
            "temporary files)."
        )


def _exit(message: str) -> NoReturn:
    # A tree of folders has several lines, and a cell of somebody's table may hold a line break.
    print("error:", *map(str.strip, message.splitlines()), file=sys.stderr)
    sys.exit(1)
