"""Keeps a run's state on disk: whole, verified checkpoints to resume from, and the best weights so far.

A checkpoint counts once the file with its checksums lies beside it, which is written last and in one piece. So a run that is
killed while it writes leaves the one before intact, and a damaged one is passed over.
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

    No iterator state is saved: the pipeline can start at any step, so model, optimizer and step are everything.

    Args:
      folder: where they are kept.
      model, optimizer: what is saved and restored, in place.
      kept: how many are kept, the newest.
      writes: whether this process is the one that writes. The others of several workers must call `save` too, because
        reading variables that are synchronised on reading takes all of them, and throw away what they wrote.
    """

    def __init__(
        self,
        folder: Path,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        kept: int = 3,
        writes: bool = True,
    ):
        self._folder, self._kept, self._writes = folder, kept, writes
        self._state = tf.train.Checkpoint(model=model, optimizer=optimizer)
        self._weights = tf.train.Checkpoint(model=model)

    def restore(self, before: int | None = None) -> int | None:
        """Restores the newest checkpoint that is whole, and returns its step; None where there is none.

        Args:
          before: passes over those of this step and later.
        """
        for step in reversed(sealed_steps(self._folder, "step")):
            if before is not None and step >= before:
                continue
            if _intact(self._folder, _name("step", step)):
                self._state.restore(str(self._folder / _name("step", step))).expect_partial()
                return step
            print(
                f"{self._folder / _name('step', step)} is damaged and passed over",
                file=sys.stderr,
                flush=True,
            )
        return None

    def save(self, step: int) -> None:
        """Saves the state after `step` steps and drops what is no longer needed.

        Raises:
          UserError: it cannot be written; the earlier ones are intact.
        """
        self._write(self._state, _name("step", step))
        if self._writes:
            for old in sealed_steps(self._folder, "step")[: -self._kept]:
                _remove(self._folder, _name("step", old))
            best = [old for old in sealed_steps(self._folder, "best") if old <= step]
            for old in best[:-1]:
                _remove(self._folder, _name("best", old))

    def drop_after(self, step: int) -> None:
        """Removes what was saved after `step`, as when a run is taken back to it."""
        for kind in ("step", "best"):
            for later in sealed_steps(self._folder, kind) if self._writes else ():
                if later > step:
                    _remove(self._folder, _name(kind, later))

    def save_best(self, step: int) -> None:
        """Keeps the present weights as the best so far. The best before stays until the next `save`."""
        self._write(self._weights, _name("best", step))

    def restore_best(self, step: int) -> None:
        """Puts the weights that were best at `step` back into the model.

        Raises:
          UserError: they are damaged.
        """
        if not _intact(self._folder, _name("best", step)):
            raise UserError(
                f"{self._folder / _name('best', step)} is damaged; train again in a new --workdir."
            )
        self._weights.read(str(self._folder / _name("best", step))).expect_partial()

    def _write(self, state: tf.train.Checkpoint, name: str) -> None:
        if not self._writes:
            scratch = tempfile.mkdtemp(prefix="checkpoint_")
            state.write(os.path.join(scratch, name))
            shutil.rmtree(scratch, ignore_errors=True)
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _remove(self._folder, name)  # What an interrupted run left without a seal.
            state.write(str(self._folder / name))
            _seal(self._folder, name)
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(
                f"the checkpoint {self._folder / name} cannot be written ({reason}); make room and "
                "give the same command again: the run goes on from the one before."
            ) from error


def sealed_steps(folder: Path, kind: str) -> list[int]:
    """The steps of the checkpoints of a kind (step, best) that were written to their end, rising."""
    return sorted(
        int(path.name.removeprefix(f"{kind}-").removesuffix(_SEAL))
        for path in folder.glob(f"{kind}-*{_SEAL}")
    )


def weights_sha256(model: keras.Model) -> str:
    """SHA-256 over all of a model's weights, in order, as hexadecimal: equal for two runs that agree bit for bit."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(value.tobytes())
    return digest.hexdigest()


def _name(kind: str, step: int) -> str:
    return f"{kind}-{step:08d}"


def _files(folder: Path, name: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"{name}.*") if not path.name.endswith(_SEAL))


def _seal(folder: Path, name: str) -> None:
    sums = {}
    for path in _files(folder, name):
        with open(path, "rb") as file:
            sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    partial = folder / f"{name}.partial"
    with open(partial, "w") as file:
        json.dump({"sha256": sums}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / (name + _SEAL))


def _intact(folder: Path, name: str) -> bool:
    try:
        sums = json.loads((folder / (name + _SEAL)).read_text())["sha256"]
        for file_name, expected in sums.items():
            with open(folder / file_name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    return False
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return bool(sums)


def _remove(folder: Path, name: str) -> None:
    (folder / (name + _SEAL)).unlink(missing_ok=True)  # First: without it the rest does not count.
    for path in _files(folder, name):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in folder.glob(f"{name}_temp*"):  # TensorFlow's, of a write that was killed.
        shutil.rmtree(path, ignore_errors=True)
