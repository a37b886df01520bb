"""How PyTorch does it: DataLoader with torchvision's transforms, and the same network channels-last, eager and compiled."""

import itertools
import multiprocessing
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from tests.benchmark.rows import seconds

SHEAR, ZOOM, FILTERS, UNITS = 0.2, 0.2, (32, 32, 64, 64, 128), (512, 256, 128, 64)


def loader_rate(
    count: int, side: int, batch: int, batches: int, workers: int
) -> Callable[[], float]:
    """Images a second of a DataLoader whose worker processes change squares in memory (`count` random ones) one by one.

    torchvision zooms both axes alike and shears in degrees; the rest is the reference's.
    """
    from torchvision.transforms import InterpolationMode, v2

    torch.set_num_threads(workers)
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (count, 1, side, side), np.uint8)
    )
    changed = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(
                0, scale=(1 - ZOOM, 1 + ZOOM), shear=SHEAR, interpolation=InterpolationMode.BILINEAR
            ),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )

    class Squares(Dataset):
        def __len__(self) -> int:
            return batch * (batches + 1)

        def __getitem__(self, index: int) -> torch.Tensor:
            return changed(images[index % count])

    # Forked as it is by default on Linux: this process itself was spawned, and would hand that on.
    loader = DataLoader(
        Squares(),
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="fork"
        if "fork" in multiprocessing.get_all_start_methods()
        else None,
    )

    def measure() -> float:
        iterator = iter(loader)
        next(iterator)
        return batch * batches / seconds(lambda: list(itertools.islice(iterator, batches)))

    measure()
    return measure


def step(side: int, batch: int, steps: int, compiled: bool) -> Callable[[], float]:
    """The seconds a training step takes, over `steps` steps of one batch in memory; channels-last, Adam, cross-entropy."""
    torch.manual_seed(0)
    model = _network(side).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    images = torch.rand(batch, 1, side, side).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 2

    def loss_of(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(model(images / 255.0), labels)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def one() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(images, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    def several() -> None:
        for _ in range(steps):
            one()

    one()
    return lambda: seconds(several) / steps


def _network(side: int) -> nn.Module:
    body, channels = [], 1
    for filters in FILTERS:
        body += [nn.Conv2d(channels, filters, 3), nn.ReLU(), nn.MaxPool2d(2)]
        channels, side = filters, (side - 2) // 2
    body += [nn.Dropout(0.5), nn.Flatten()]
    width = channels * side * side
    for units in UNITS:
        body += [nn.Linear(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*body, nn.Linear(width, 2))
