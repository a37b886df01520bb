"""A run's state on disk: verified checkpoints to resume from, and the best weights.

    checkpoints = Checkpoints(workdir.checkpoints, model, optimizer)
    step = checkpoints.restore()

A checkpoint counts once its file of checksums exists, which is written last and atomically. So a
run killed while it writes leaves the checkpoint before intact, and a damaged one is passed over.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

from trainer.errors import UserError

_SEAL = ".json"


class Checkpoints:
    """The checkpoints of one workdir.

    They hold model, optimizer and step. The state of the input is not saved, because the pipeline
    can start at any step.

    Args:
      folder: for the checkpoints.
      model, optimizer: saved, and restored in place.
      keep: number of newest checkpoints to keep.
      writes: whether this process writes to the folder. With several workers the others must call
        `save` too, because all of them take part in reading synchronised variables; what they write
        is deleted.
    """

    def __init__(
        self,
        folder: Path,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        keep: int = 3,
        writes: bool = True,
    ):
        self._folder = folder
        self._keep = keep
        self._writes = writes
        self._state = tf.train.Checkpoint(model=model, optimizer=optimizer)
        self._weights = tf.train.Checkpoint(model=model)

    def restore(self, before: int | None = None) -> int | None:
        """Restores the newest checkpoint that is whole.

        Args:
          before: skips the checkpoints of this step and later.

        Returns:
          Its step; None if there is none.
        """
        steps = complete_steps(self._folder, "step")
        for step in reversed([step for step in steps if before is None or step < before]):
            path = self._path("step", step)
            if _is_intact(path):
                self._state.restore(str(path)).expect_partial()
                return step
            print(f"{path} is damaged and passed over", file=sys.stderr, flush=True)
        return None

    def save(self, step: int) -> None:
        """Saves the state after `step` steps, and deletes what is no longer needed.

        Raises:
          UserError: it cannot be written; the earlier ones are intact.
        """
        self._write(self._state, self._path("step", step))
        if self._writes:
            # Best weights of a later step belong to a run that may yet be taken back.
            best = [best for best in complete_steps(self._folder, "best") if best <= step]
            self._delete("best", best[:-1])
            self._delete("step", complete_steps(self._folder, "step")[: -self._keep])

    def drop_after(self, step: int) -> None:
        """Deletes what was saved after `step`."""
        if self._writes:
            for kind in ("step", "best"):
                steps = complete_steps(self._folder, kind)
                self._delete(kind, [saved for saved in steps if saved > step])

    def save_best(self, step: int) -> None:
        """Saves the weights as the best so far; the best before stays until the next `save`."""
        self._write(self._weights, self._path("best", step))

    def restore_best(self, step: int) -> None:
        """Restores the weights that were best at `step`.

        Raises:
          UserError: they are damaged.
        """
        path = self._path("best", step)
        if not _is_intact(path):
            raise UserError(f"{path} is damaged; train again in a new --workdir.")
        self._weights.read(str(path)).expect_partial()

    def _path(self, kind: str, step: int) -> Path:
        # The prefix of a checkpoint's files. Zeros: names in the order of the steps.
        return self._folder / f"{kind}-{step:08d}"

    def _delete(self, kind: str, steps: list[int]) -> None:
        for step in steps:
            _remove(self._path(kind, step))

    def _write(self, state: tf.train.Checkpoint, path: Path) -> None:
        if not self._writes:
            # TensorFlow reads synchronised variables together, so this worker must write as well.
            with tempfile.TemporaryDirectory(
                prefix="checkpoint_", ignore_cleanup_errors=True
            ) as scratch:
                state.write(os.path.join(scratch, path.name))
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _remove(path)  # files that an interrupted run left without a seal
            state.write(str(path))
            checksums = {}
            for file_path in sorted(path.parent.glob(f"{path.name}.*")):
                with open(file_path, "rb") as file:
                    os.fsync(file.fileno())  # on the disk before the seal is
                checksums[file_path.name] = _sha256(file_path)
            partial = path.with_name(f"{path.name}.partial")
            with open(partial, "w", encoding="utf-8") as seal:
                json.dump({"sha256": checksums}, seal)
                seal.flush()
                os.fsync(seal.fileno())
            os.replace(partial, _seal_of(path))  # atomic: there is never half a seal
        except (OSError, tf.errors.OpError) as error:
            # A TensorFlow error has no strerror; its first line is the reason.
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(
                f"the checkpoint {path} cannot be written ({reason}); make room and give the same "
                "command again: the run goes on from the one before."
            ) from error


def complete_steps(folder: Path, kind: str) -> list[int]:
    """The steps of all sealed checkpoints of a kind (step, best), rising."""
    return sorted(
        int(seal.stem.removeprefix(f"{kind}-")) for seal in folder.glob(f"{kind}-*{_SEAL}")
    )


def weights_sha256(model: keras.Model) -> str:
    """SHA-256 over all weights in order: equal for two runs that agree bit for bit."""
    return hashlib.sha256(
        b"".join(value.tobytes() for value in model.get_weights()),
    ).hexdigest()


def _seal_of(path: Path) -> Path:
    return path.with_name(path.name + _SEAL)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_intact(path: Path) -> bool:
    try:
        checksums = json.loads(_seal_of(path).read_text(encoding="utf-8"))["sha256"]
        return bool(checksums) and all(
            _sha256(path.with_name(name)) == checksum for name, checksum in checksums.items()
        )
    # A file is missing, or the seal is not what `_seal` writes.
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _remove(path: Path) -> None:
    _seal_of(path).unlink(missing_ok=True)  # first: without it the other files do not count
    # TensorFlow leaves `_temp` folders where a write was killed.
    for file in [*path.parent.glob(f"{path.name}.*"), *path.parent.glob(f"{path.name}_temp*")]:
        if file.is_dir():
            shutil.rmtree(file, ignore_errors=True)
        else:
            file.unlink(missing_ok=True)
