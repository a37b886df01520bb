"""Stage: images a second of the input pipeline, the first epoch from files and later ones."""

from collections.abc import Iterator

import numpy as np

from tests.benchmark import keras_side, our_side
from tests.benchmark.material import BATCH, SIDE, Material
from tests.benchmark.rows import Row, compared, in_turns, missing, seconds
from tests.benchmark.side import Side
from trainer.training import input_pipeline

_GENERATOR = "Keras ImageDataGenerator"
_TORCH = "torch DataLoader + torchvision v2, 2 workers, images cached"
_LAYERS = "Keras preprocessing layers in tf.data, images cached"


def measure(material: Material, quick: bool) -> Iterator[Row]:
    """500 x 500, shear, zoom, flip, batches of 16."""
    rounds, batches, slow = (3, 12, 3) if quick else (7, 40, 8)
    train = material.train
    ours, folder = our_side.batches(train, BATCH), material.folder / "Train"

    def generator() -> float:
        return keras_side.generator_rate(folder, SIDE, BATCH, slow)

    first, reference = in_turns(2 if quick else 7, lambda: _first_epoch(material), generator)
    yield compared(
        "input pipeline, first epoch from files",
        "images/s",
        first,
        reference,
        _GENERATOR,
        4.0,
        note="ours from prepared records: reading, decoding and one epoch; the set is built once, see builder",
    )

    layers = keras_side.layers_rate(train.images, BATCH, batches)
    measures = [lambda: keras_side.rate_of(ours, BATCH, batches), generator, layers]
    torch = _torch(len(train), batches)
    if torch:
        measures.append(torch)
    later, *others = in_turns(rounds, *measures)
    yield compared("input pipeline, later epochs", "images/s", later, others[0], _GENERATOR, 12.0)
    yield compared("input pipeline, later epochs", "images/s", later, others[1], _LAYERS, 1.5)
    if torch:
        torch.close()
        # Its workers' CPU time is not counted, being that of other processes.
        yield compared(
            "input pipeline, later epochs", "images/s", later, list(others[2]), _TORCH, 1.5
        )
    else:
        yield missing("input pipeline, later epochs", "images/s", _TORCH, 1.5, ours=later)


def _first_epoch(material: Material) -> float:
    found: list[np.ndarray] = []

    def work() -> None:
        train = input_pipeline.load(material.data.builder, "train", SIDE)
        epoch = -(-len(train) // BATCH)
        for batch in our_side.batches(train, BATCH).take(epoch):
            found.append(batch["label"])

    return seconds(work) ** -1 * len(material.train)


def _torch(count: int, batches: int) -> Side | None:
    try:
        return Side(
            "torch_side:loader_rate",
            count=count,
            side=SIDE,
            batch=BATCH,
            batches=batches,
            workers=2,
        )
    except ImportError:
        return None
