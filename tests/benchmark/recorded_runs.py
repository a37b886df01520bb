"""Stage of whole trainings: this project's beside the reference recipe, from records.

    recorded_runs.train_missing(folder, images, flags)    # about an hour
    rows = list(recorded_runs.measure(folder))

The folder holds workdirs of trainer.main, default/ and small_SEED/, and reference_SEED/ of the
reference recipe as its authors ran it: plain Keras on files read by ImageDataGenerator.
"""

import dataclasses
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras

from tests.benchmark import keras_peer
from tests.benchmark.fixtures import BATCH, ROOT, SIDE, ImageSet
from tests.benchmark.rows import Row, Spread
from trainer.config import TrainConfig
from trainer.data import split
from trainer.errors import UserError
from trainer.workdir import Workdir, read_json, write_json

SEEDS = (0, 1, 2)
_REFERENCE_FILE = "reference.json"
_REFERENCE_EPOCHS = 13
# Validation accuracies that the two rows ask for.
_ACCURACIES = (0.89, 0.95)
# A recipe that learns sooner than the default.
_SMALL = (
    *("--image_size=256", "--epochs=33", "--optimizer=adamw", "--weight_decay=0.05"),
    *("--shift=0.08", "--rotation=8", "--contrast=0.3", "--brightness=0.1"),
)
_NO_RECORDS = "no such runs in {folder}; train them: add --train (about an hour)"


@dataclasses.dataclass(frozen=True)
class RecordedRun:
    """Times of one training.

    Attributes:
      seconds: of the whole process.
      epochs: (seconds since training began, validation accuracy) after each epoch.
    """

    seconds: float
    epochs: Sequence[tuple[float, float]]

    def time_to(self, accuracy: float) -> float | None:
        """Seconds until validation accuracy first reached a value; None if never."""
        return next((seconds for seconds, value in self.epochs if value >= accuracy), None)


def measure(folder: Path) -> Iterator[Row]:
    """Compares the recorded runs.

    Args:
      folder: of the records, see above.

    Yields:
      Time to each validation accuracy, and the whole default command. Not measured where
      records are missing.
    """
    reference_paths = [folder / f"reference_{seed}" for seed in SEEDS]
    references = [_read_reference(path) for path in reference_paths if _has_reference(path)]
    small_paths = [folder / f"small_{seed}" for seed in SEEDS]
    small = [_read_workdir(path) for path in small_paths if Workdir(path).finished]
    for accuracy in _ACCURACIES:
        # Without a ratio: this row stays if records are missing.
        row = Row(
            f"time to validation accuracy {accuracy}, cnn at 256 pixels",
            "s",
            against="the reference recipe in plain Keras",
            target=25.0,
            note=_NO_RECORDS.format(folder=folder),
        )
        if small and references:
            row = _compare_time_to(accuracy, row, small, references)
        yield row
    row = Row(
        "the default command, 13 epochs, whole process",
        "s",
        against="the reference recipe's 13 epochs in plain Keras",
        target=10.0,
        note=_NO_RECORDS.format(folder=folder),
    )
    if references and Workdir(folder / "default").finished:
        seconds = _read_workdir(folder / "default").seconds
        times = [run.seconds for run in references]
        row = dataclasses.replace(
            row,
            project=Spread.of([seconds]),
            peer=Spread.of(times),
            ratio=Spread.of([value / seconds for value in times]),
            note="ours with its audit, report and exports",
        )
    yield row


def train_missing(folder: Path, images: ImageSet, flags: Sequence[str]) -> None:
    """Trains the runs that have no record, ours and the reference's in turns.

    Args:
      folder: of the records.
      images: to train the reference on.
      flags: that name the same data for trainer.main.

    Raises:
      UserError: trainer.main failed.
    """
    for seed in SEEDS:
        reference = folder / f"reference_{seed}"
        if not _has_reference(reference):
            train_reference(images, reference, seed)
        _run_trainer(folder / f"small_{seed}", [*flags, *_SMALL, f"--seed={seed}"])
    _run_trainer(folder / "default", flags)


def train_reference(images: ImageSet, folder: Path, seed: int) -> None:
    """Trains the reference recipe on our split of the same seed.

    It writes reference.json: seed; seconds of everything; epochs, a list of {epoch, seconds since
    the start, validation_accuracy}.

    Args:
      images: to train on.
      folder: for the record.
      seed: of split, weights and order.
    """
    start = time.perf_counter()
    # Seeds Python, NumPy and TensorFlow: weights, order and augmentation.
    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory(prefix="benchmark_") as name:
        train, validation = _open_generators(images, Path(name), seed)
        lines: list[dict[str, float]] = []  # One an epoch.

        def record_epoch(epoch: int, logs: dict[str, float]) -> None:
            lines.append(
                {
                    "epoch": epoch + 1,
                    "seconds": round(time.perf_counter() - start, 1),
                    "validation_accuracy": float(logs["val_accuracy"]),
                }
            )

        keras_peer.compiled_network(SIDE).fit(
            train,
            validation_data=validation,
            epochs=_REFERENCE_EPOCHS,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=record_epoch)],
        )
    seconds = round(time.perf_counter() - start, 1)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"seed": seed, "seconds": seconds, "epochs": lines}
    write_json(folder / _REFERENCE_FILE, record)


def _open_generators(
    images: ImageSet, folder: Path, seed: int
) -> tuple[keras.utils.PyDataset, keras.utils.PyDataset]:
    """Opens generators of the training and the validation split of Train."""
    examples = images.train
    # The same split as trainer.main makes: accuracies are comparable.
    train, validation = split.split_train(examples.labels, examples.groups, TrainConfig(seed=seed))
    train_folder = images.link(list(examples.filenames[train]), folder / "train")
    validation_folder = images.link(list(examples.filenames[validation]), folder / "validation")
    return (
        keras_peer.generator(train_folder, SIDE, BATCH),
        keras_peer.generator(validation_folder, SIDE, BATCH, augmented=False),
    )


def _run_trainer(path: Path, flags: Sequence[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "trainer.main", f"--workdir={path}", *flags],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        # Its errors are one line, the last one.
        reason = result.stderr.strip().splitlines()[-1]
        raise UserError(f"trainer.main failed ({reason}); run it by itself to find the cause.")


def _compare_time_to(
    accuracy: float, row: Row, small: list[RecordedRun], references: list[RecordedRun]
) -> Row:
    """Fills a row with the medians of times to an accuracy."""
    project_times = [run.time_to(accuracy) for run in small]
    peer_times = [run.time_to(accuracy) for run in references]
    missed = _describe_missed("ours", project_times)
    missed += _describe_missed("the reference (its end is taken)", peer_times)
    # The end of a reference run that never reached the accuracy: the ratio is then a lower bound.
    bounds = [run.time_to(accuracy) or run.epochs[-1][0] for run in references]
    peer = Spread.of(bounds)
    project = None
    ratio = None
    # Ours have no such bound. The median exists if more than half of them reached the accuracy.
    median = statistics.median([value or math.inf for value in project_times])
    if median < math.inf:
        reached = [value for value in project_times if value is not None]
        project = Spread(median, min(reached), max(reached), len(small))
        # Of medians: the runs are not pairs.
        factor = peer.median / median
        ratio = Spread(factor, factor, factor, len(small))
    note = "; ".join(missed) or "medians of recorded runs, one after another"
    return dataclasses.replace(row, project=project, peer=peer, ratio=ratio, note=note)


def _describe_missed(whose: str, times: Sequence[float | None]) -> list[str]:
    count = times.count(None)
    return [f"{count} of {len(times)} runs of {whose} never reached it"] if count else []


def _has_reference(folder: Path) -> bool:
    return (folder / _REFERENCE_FILE).exists()


def _read_reference(folder: Path) -> RecordedRun:
    record = read_json(folder / _REFERENCE_FILE)
    epochs = [(line["seconds"], line["validation_accuracy"]) for line in record["epochs"]]
    return RecordedRun(record["seconds"], epochs)


def _read_workdir(path: Path) -> RecordedRun:
    workdir = Workdir(path, writes=False)
    metrics = workdir.metrics()
    # metrics.jsonl has no times: all steps count alike.
    step_seconds = metrics["seconds"]["training"] / metrics["steps"]
    scored = [line for line in workdir.history() if "validation_accuracy" in line]
    epochs = [(line["step"] * step_seconds, line["validation_accuracy"]) for line in scored]
    return RecordedRun(metrics["seconds"]["total"], epochs)
