"""Stage: a training step of seed_cnn, the same arithmetic in three frameworks, float32."""

import contextlib
from collections.abc import Iterator

from trainer.benchmarking.material import BATCH, SIDE
from trainer.benchmarking.rows import Row, compared, in_turns, missing
from trainer.benchmarking.side import Side

_NAME, _UNIT = "seed_cnn training step, 16 x 500 x 500, float32", "s"
_PEERS = (
    ("plain Keras fit, compiled as compile() does", "keras_side:step", {"jit": "auto"}, 1.3),
    ("plain Keras fit, jit_compile=False", "keras_side:step", {"jit": False}, 1.3),
    ("PyTorch channels-last, eager", "torch_side:step", {"compiled": False}, 1.1),
    ("PyTorch channels-last, torch.compile", "torch_side:step", {"compiled": True}, 1.1),
)


def measure(quick: bool) -> Iterator[Row]:
    """One step of each in turns, each in a process of its own; `quick` leaves torch.compile out."""
    rounds, steps = (2, 1) if quick else (7, 1)
    with contextlib.ExitStack() as open_sides:
        ours = _opened(open_sides, "our_side:step", steps=steps, model="seed_cnn", batch_size=BATCH, image_size=SIDE)
        found: list[tuple[str, float, Side | str]] = []
        for against, place, settings, target in _PEERS:
            if quick and settings.get("compiled"):
                found.append((against, target, "left out by --quick: it compiles for a minute"))
                continue
            try:
                side = _opened(open_sides, place, side=SIDE, batch=BATCH, steps=steps, **settings)
                found.append((against, target, side))
            except ImportError:
                found.append((against, target, ""))
        there = [side for _, _, side in found if isinstance(side, Side)]
        own, *others = in_turns(rounds, ours, *there)
    series = iter(others)
    for against, target, side in found:
        if isinstance(side, Side):
            yield compared(_NAME, _UNIT, own, next(series), against, target)
        else:
            yield missing(_NAME, _UNIT, against, target, ours=own, **({"note": side} if side else {}))


def _opened(open_sides: contextlib.ExitStack, place: str, **settings) -> Side:
    side = Side(place, **settings)
    open_sides.callback(side.close)
    return side
