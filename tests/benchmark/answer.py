"""Stage: from a file to a probability and a map, warm."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmark.rows import Row, compared, in_turns, seconds
from tests.benchmark.side import together
from trainer.data import phantom, radiograph

SIDE, _FILE_SIDE = radiograph.STANDARD_SIDE, 390
_IN_A_ROW = (
    5  # Warm: the other side has emptied the caches, and its threads may not yet be at rest.
)


def measure(quick: bool) -> Iterator[Row]:
    """The default network with weights as they are drawn: training would not change the time."""
    from tests.benchmark import untrained

    with contextlib.ExitStack() as held:
        place = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="benchmark_")))
        path, square = (
            place / "radiograph.jpg",
            phantom.draw(seed=0, index=0, label=0, side=SIDE).image,
        )
        Image.fromarray(square).resize((_FILE_SIDE, _FILE_SIDE)).save(path, quality=90)
        untrained.write(place, square)
        sides = together(
            held,
            *(
                (f"answer:{name}", {"folder": place, "path": path})
                for name in ("ours", "keras_predict")
            ),
        )
        own, other = in_turns(7 if quick else 30, *sides)
    yield compared(
        f"one {_FILE_SIDE}-px JPEG, file to probability and map, warm",
        "s",
        own,
        other,
        "Pillow and keras.Model.predict",
        15.0,
        note=f"the same network, not trained; {_IN_A_ROW} in a row, each side in a process of its own",
    )


def ours(folder: Path, path: Path) -> Callable[[], float]:
    """The seconds in which the small runtime answers."""
    from trainer.inference import runtime

    model = runtime.load(folder / "model.onnx")

    def answer() -> None:
        model.explain(radiograph.standardize(radiograph.read(path), SIDE))

    return _warm(answer)


def keras_predict(folder: Path, path: Path) -> Callable[[], float]:
    """The seconds in which Keras does."""
    import keras

    from trainer.evaluation import export_network  # noqa: F401  Registers the layers the model is made of.

    network = keras.saving.load_model(folder / "model.keras", compile=False)

    def answer() -> None:
        with Image.open(path) as image:
            pixels = np.asarray(
                image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32
            )
        network.predict(pixels[None, ..., None], verbose=0)

    return _warm(answer)


def _warm(answer: Callable[[], None]) -> Callable[[], float]:
    """The seconds an answer takes, over some in a row."""

    def several() -> None:
        for _ in range(_IN_A_ROW):
            answer()

    answer()
    several()
    return lambda: seconds(several) / _IN_A_ROW
