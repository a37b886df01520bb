"""Starts TensorFlow without its start-up messages, and with an allocator that keeps its memory."""

import contextlib
import ctypes
import logging as python_logging
import os
import sys
import tempfile
from collections.abc import Iterator

from absl import logging

# Parameters of glibc's allocator: https://man7.org/linux/man-pages/man3/mallopt.3.html
_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_MAX = -4


def start_tensorflow() -> None:
    """Imports TensorFlow and lists its devices, without its start-up messages.

    Memory that the process frees is kept for its next allocation (see `_keep_freed_memory`).
    They are printed all the same if that fails or if the machine has a GPU.
    TF_CPP_MIN_LOG_LEVEL does not apply to the lines written before TensorFlow's log is initialised.
    """
    _keep_freed_memory()
    verbosity_given = any("--verbosity" in argument for argument in sys.argv)
    if logging.get_verbosity() >= logging.INFO and not verbosity_given:
        logging.set_verbosity(logging.ERROR)
    python_logging.getLogger("tensorflow").setLevel(python_logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
    # On a GPU machine the messages say which driver and libraries are used.
    with contextlib.nullcontext() if os.path.exists("/dev/nvidiactl") else _hidden_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()


def _keep_freed_memory() -> None:
    """Makes glibc's allocator keep freed memory; does nothing on other systems.

    A training step allocates and frees tensors of many megabytes. By default each comes from the
    system and goes back to it, and the kernel clears its pages: a quarter of a run's processor
    time. No result changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)  # bytes, the largest that it takes
    mallopt(_TOP_PAD, 2**26)  # bytes


@contextlib.contextmanager
def _hidden_stderr() -> Iterator[None]:
    # An exception shows what was hidden.
    sys.stderr.flush()
    stderr = os.dup(2)  # C++ writes to descriptor 2 itself, so sys.stderr is not enough.
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        except BaseException:
            buffer.seek(0)
            os.write(stderr, buffer.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
