"""Starts TensorFlow without the lines it prints on machines that have no GPU."""

import contextlib
import logging as python_logging
import os
import sys
import tempfile
from collections.abc import Iterator

from absl import logging


def start_tensorflow() -> None:
    """Imports TensorFlow and lists its devices; keeps what it prints to itself unless that fails or a GPU is there.

    TF_CPP_MIN_LOG_LEVEL does not reach the lines written before TensorFlow's log is initialised.
    """
    if logging.get_verbosity() >= logging.INFO and "--verbosity" not in " ".join(sys.argv):
        logging.set_verbosity(logging.ERROR)
    python_logging.getLogger("tensorflow").setLevel(python_logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with contextlib.nullcontext() if os.path.exists("/dev/nvidiactl") else _stderr_held_back():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Catches what is written to the process's stderr, by C++ too, and lets it out only if an exception is raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
