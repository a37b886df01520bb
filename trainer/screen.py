"""Standard output and error that never make a command fail.

with screen.guard():
    main()

A letter that the stream's encoding lacks is written as an escape. Once nothing can be written any
more (a closed pipe, a full disk), the rest is dropped, so that hours of training are not lost to a
line on the screen; the exit status tells it at the end.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

from trainer.errors import BROKEN_PIPE, UserError

# Python sets a stream to None where its descriptor is closed.
_STDOUT_CLOSED = sys.stdout is None


def use_utf8() -> None:
    """Starts the interpreter anew in UTF-8 mode where the locale has another encoding.

    In such a locale (C with PYTHONUTF8=0, ISO-8859-1, EUC) names of files are no Unicode, and
    TensorFlow refuses them. What is printed keeps the encoding of the locale.
    """
    if sys.getfilesystemencoding().lower() in ("utf-8", "utf8"):
        return
    encoding = next((stream.encoding for stream in (sys.stdout, sys.stderr) if stream), "utf-8")
    os.environ.setdefault("PYTHONIOENCODING", encoding)
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


class _Tolerant(io.RawIOBase):
    """A binary stream that drops what it cannot write.

    Attributes:
      error: the first error of writing; None without.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._stream = stream

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, data: Any) -> int:
        with self._tolerate():
            self._stream.write(data)
        return len(data)

    def flush(self) -> None:
        with self._tolerate():
            self._stream.flush()

    @contextlib.contextmanager
    def _tolerate(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            # Python flushes once more at its end, which must not fail.
            with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Replaces standard output and error by streams that do not fail, and restores them.

    Raises:
      SystemExit: the output was lost: status 141 for a closed pipe, else 1 after a line on stderr.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, output = _wrap(sys.stdout)
    sys.stderr, errors = _wrap(sys.stderr)
    end: SystemExit | None = None
    try:
        yield
    except SystemExit as raised:
        end = raised
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
    if output.error is not None and (end is None or not end.code):
        end = SystemExit(BROKEN_PIPE)
        if not isinstance(output.error, BrokenPipeError):
            end = SystemExit(1)
            if errors.error is None and sys.stderr is not None:
                print(
                    f"error: standard output cannot be written ({output.error.strerror}); what "
                    "went to files is complete.",
                    file=sys.stderr,
                )
    if end is not None:
        raise end


@contextlib.contextmanager
def table_stream() -> Iterator[TextIO]:
    """Opens standard output for a table: UTF-8 unless it is a terminal; errors are raised.

    Raises:
      UserError: standard output is closed.
      OSError: something cannot be written.
    """
    if _STDOUT_CLOSED:
        raise UserError("standard output is closed; give --output=FILE.")
    buffer: Any = getattr(sys.stdout, "buffer", None)
    # A notebook and `contextlib.redirect_stdout` have text alone.
    if buffer is None or sys.stdout.isatty():
        yield sys.stdout
        return
    sys.stdout.flush()
    if isinstance(buffer, _Tolerant):
        buffer = buffer._stream
    stream = io.TextIOWrapper(buffer, encoding="utf-8", newline="")
    try:
        yield stream
        stream.flush()
    finally:
        with contextlib.suppress(OSError):
            stream.detach()  # Else it closes standard output.


def _wrap(stream: TextIO | None) -> tuple[TextIO, _Tolerant]:
    """Returns a text stream that does not fail, and its bytes."""
    buffer = open(os.devnull, "wb") if stream is None else stream.buffer  # noqa: SIM115
    tolerant = _Tolerant(buffer)
    text = io.TextIOWrapper(
        tolerant,  # type: ignore[type-var]  # A raw stream suffices for text.
        encoding=stream.encoding if stream else "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
    return text, tolerant
