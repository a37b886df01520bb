"""Starts TensorFlow without the lines that it prints on machines without a GPU."""

import contextlib
import logging as python_logging
import os
import sys
import tempfile
from collections.abc import Iterator

from absl import logging


def start_tensorflow() -> None:
    """Imports TensorFlow and lists its devices, without its start-up messages.

    They are printed all the same if that fails or if the machine has a GPU.
    TF_CPP_MIN_LOG_LEVEL does not apply to the lines written before TensorFlow's log is initialised.
    """
    verbosity_given = any("--verbosity" in argument for argument in sys.argv)
    if logging.get_verbosity() >= logging.INFO and not verbosity_given:
        logging.set_verbosity(logging.ERROR)
    python_logging.getLogger("tensorflow").setLevel(python_logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
    # On a GPU machine the messages say which driver and libraries are used.
    with contextlib.nullcontext() if os.path.exists("/dev/nvidiactl") else _hidden_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()


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
