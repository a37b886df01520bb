"""Starts TensorFlow and Keras: the same settings in any environment, and no start-up messages.

tf_startup.start_tensorflow()
import tensorflow as tf
"""

import contextlib
import ctypes
import logging as python_logging
import os
import sys
import tempfile
from collections.abc import Iterator

from absl import logging

from trainer.errors import UserError

# Parameters of glibc's allocator: https://man7.org/linux/man-pages/man3/mallopt.3.html
_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_MAX = -4

# Variables that choose other arithmetic, and so other weights of the same seed. Those of resources
# stay: threads, memory, devices.
_ARITHMETIC_PREFIXES = (
    "DNNL_",
    "KERAS_",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_",
    "TF2_BEHAVIOR",
    "TF_AUTO_MIXED_PRECISION_",
    "TF_CONV2D_",
    "TF_CUDNN_",
    "TF_DETERMINISTIC_",
    "TF_DISABLE_",
    "TF_ENABLE_",
    "TF_FP16_",
    "TF_MATMUL_",
    "TF_ONEDNN_",
    "TF_SET_",
    "TF_USE_",
    "TF_XLA_",
)
# The folder of downloaded weights, and a log.
_KEPT = {"KERAS_HOME", "ONEDNN_VERBOSE"}


def start_tensorflow() -> None:
    """Imports TensorFlow and lists its devices, without its start-up messages.

    Memory that the process frees is kept for its next allocation (see `_keep_freed_memory`).
    They are printed all the same if that fails or if the machine has a GPU.
    TF_CPP_MIN_LOG_LEVEL does not apply to the lines written before TensorFlow's log is initialised.

    Raises:
      UserError: as `set_up_keras`; an argument is not UTF-8.
    """
    _check_arguments()
    _keep_freed_memory()
    verbosity_given = any("--verbosity" in argument for argument in sys.argv)
    if logging.get_verbosity() >= logging.INFO and not verbosity_given:
        logging.set_verbosity(logging.ERROR)
    python_logging.getLogger("tensorflow").setLevel(python_logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
    # On a GPU machine the messages say which driver and libraries are used.
    with contextlib.nullcontext() if os.path.exists("/dev/nvidiactl") else _hidden_stderr():
        set_up_keras()
        import tensorflow as tf

        tf.config.list_physical_devices()


def clean_environment() -> None:
    """Removes what chooses other arithmetic from the environment, for child processes too.

    Imports nothing, so a package calls it before its modules import Keras in any order.
    """
    for name in list(os.environ):
        if name.startswith(_ARITHMETIC_PREFIXES) and name not in _KEPT:
            del os.environ[name]
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_NNX_ENABLED"] = "0"  # only this overrides keras.json


def set_up_keras() -> None:
    """Sets all that changes weights besides the configuration, whatever the environment says.

    One seed then gives one result. The environment is cleaned (`clean_environment`); backend,
    floatx, data format and epsilon are not those of keras.json
    (https://keras.io/api/utils/config_utils/). Later calls set the same.

    Raises:
      UserError: Keras runs on another backend already, or its file of settings is damaged.
    """
    clean_environment()
    try:
        import keras
    # Keras and TensorFlow's copy of it check the file in different ways.
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        settings = os.path.join(os.environ.get("KERAS_HOME") or "~/.keras", "keras.json")
        raise UserError(
            f"Keras cannot start ({error or type(error).__name__}); if {settings} has wrong values,"
            " delete it."
        ) from error
    if keras.config.backend() != "tensorflow":
        raise UserError(
            f"Keras runs on {keras.config.backend()} already; set KERAS_BACKEND=tensorflow, or "
            "import keras after trainer."
        )
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)


def _check_arguments() -> None:
    for argument in sys.argv:
        data = os.fsencode(argument)
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{data.decode('utf-8', 'backslashreplace')}: TensorFlow takes only names of files "
                "and folders that are UTF-8; rename that one."
            ) from error


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
