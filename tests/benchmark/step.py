"""Stage: a training step of seed_cnn, the same arithmetic in three frameworks, float32."""

import contextlib
from collections.abc import Iterator

from tests.benchmark import side
from tests.benchmark.material import BATCH, SIDE
from tests.benchmark.rows import Row, compared, in_turns, missing

_NAME, _UNIT = "seed_cnn training step, 16 x 500 x 500, float32", "s"
_PEERS = (
    ("plain Keras fit, compiled as compile() does", "keras_side:step", {"jit": "auto"}, 1.3),
    ("plain Keras fit, jit_compile=False", "keras_side:step", {"jit": False}, 1.3),
    ("PyTorch channels-last, eager", "torch_side:step", {"compiled": False}, 1.1),
    ("PyTorch channels-last, torch.compile", "torch_side:step", {"compiled": True}, 1.1),
)

_SLOW = ({"jit": False}, {"compiled": True})


def measure(quick: bool) -> Iterator[Row]:
    """One step of each in turns, each in a process of its own; `quick` leaves two peers out."""
    rounds, steps = (2, 1) if quick else (7, 1)
    taken = [peer for peer in _PEERS if not (quick and peer[2] in _SLOW)]
    with contextlib.ExitStack() as held:
        ours, *sides = side.together(
            held,
            (
                "our_side:step",
                {"steps": steps, "model": "seed_cnn", "batch_size": BATCH, "image_size": SIDE},
            ),
            *(
                (place, {"side": SIDE, "batch": BATCH, "steps": steps, **settings})
                for _, place, settings, _ in taken
            ),
        )
        own, *others = in_turns(rounds, ours, *(one for one in sides if one is not None))
    series = iter(others)
    for peer in _PEERS:
        against, *_, target = peer
        if peer not in taken:
            yield missing(_NAME, _UNIT, against, target, ours=own, note="left out by --quick")
        elif sides[taken.index(peer)] is None:
            yield missing(_NAME, _UNIT, against, target, ours=own)
        else:
            yield compared(_NAME, _UNIT, own, next(series), against, target)
