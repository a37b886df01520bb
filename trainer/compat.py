"""The only uses of private attributes of libraries, each with a check.

Every function reads or changes one private attribute of an object that it is given; this file
imports no library. Its docstring names the library, the version that was tried and the reason why
no public way exists. The pattern:

    def sum_gradients_in_step(optimizer: Any) -> None:
        \"\"\"Turns off the sum of gradients over replicas in an optimizer (Keras 3.15.1).\"\"\"
        require_attribute(optimizer, "_all_reduce_sum_gradients", "keras")
        optimizer._all_reduce_sum_gradients = lambda pairs: pairs
"""

from importlib import metadata
from pathlib import Path
from typing import Any


def require_attribute(owner: Any, name: str, library: str) -> Any:
    """Returns a private attribute, or fails with the fix.

    Args:
      owner: the object, class or module that has the attribute.
      name: the attribute.
      library: the name under which pip knows the library.

    Raises:
      RuntimeError: this version of the library has no such attribute.
    """
    if not hasattr(owner, name):
        # A class and a module have a name; an object goes by its class.
        owner_name = getattr(owner, "__name__", type(owner).__name__)
        raise RuntimeError(
            f"{library} {installed_version(library)} has no {owner_name}.{name} any more; "
            "install the version that requirements.lock names: pip install -r requirements.lock"
        )
    return getattr(owner, name)


def installed_version(package: str) -> str:
    """Returns the version of an installed package, or 'unknown'."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def sum_gradients_in_step(optimizer: Any) -> None:
    """Turns off the optimizer's own sum of gradients over replicas (Keras 3.15.1).

    The training step sums before it clips, so that clipping sees the gradient of the global batch.
    A second sum costs a twelfth of a step on two devices. Keras has no public switch for it.

    Args:
      optimizer: a Keras optimizer, or a LossScaleOptimizer around one; it is changed in place.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    require_attribute(inner, "_all_reduce_sum_gradients", "keras")
    inner._all_reduce_sum_gradients = lambda pairs: pairs


def set_health_check_interval(strategy: Any, seconds: int) -> None:
    """Sets the time between checks of the other workers (TensorFlow 2.21.0).

    TensorFlow takes no argument for it, and its own 30 s take up to a minute to end a run.

    Args:
      strategy: a tf.distribute.MultiWorkerMirroredStrategy; it is changed in place.
      seconds: between two checks.
    """
    require_attribute(strategy.extended, "_check_health_interval", "tensorflow")
    strategy.extended._check_health_interval = seconds


def require_prepare_hook(builder_class: Any) -> None:
    """Checks that a builder class still calls `_download_and_prepare` (TFDS 4.9.10).

    A builder that overrides it replaces the way records are written. TFDS has no public hook
    between `download_and_prepare`, which also makes the folder and the metadata, and the writing.
    """
    require_attribute(builder_class, "_download_and_prepare", "tensorflow-datasets")


def kagglehub_archives(handle: str) -> list[Path]:
    """Lists the downloaded archives of a data set, not yet unpacked (kagglehub 1.0.2).

    kagglehub has no public function for the path of an archive in its cache.

    Args:
      handle: OWNER/NAME.
    """
    from kagglehub import cache
    from kagglehub import handle as handles

    parse = require_attribute(handles, "parse_dataset_handle", "kagglehub")
    archive_path = require_attribute(cache, "get_cached_archive_path", "kagglehub")
    # Archives of all versions lie in one folder.
    archive = Path(archive_path(parse(handle).with_version(1)))
    return list(archive.parent.glob("*.archive"))


def kaggle_endpoint() -> str:
    """Returns the address of Kaggle's service (kagglesdk 0.1.37).

    kagglehub has no public setting for it; KAGGLE_API_ENVIRONMENT changes it.
    """
    from kagglesdk import kaggle_env

    environment = require_attribute(kaggle_env, "get_env", "kagglesdk")()
    return require_attribute(kaggle_env, "get_endpoint", "kagglesdk")(environment)
