"""Peers that need no TensorFlow, and the processes that every peer runs in.

    with contextlib.ExitStack() as stack:
        project, peer = peers.start_peers(
            stack,
            ("fixtures:project_step", {"steps": 1}),
            ("peers:torch_step", {"side": 500, "batch": 16, "steps": 1, "compiled": False}),
        )
        series = rows.interleave(7, project, peer)

A process of its own keeps the threads and settings of one framework from the others. This module
does not import TensorFlow, and PyTorch only in the functions that need it: it is optional.
"""

import concurrent.futures
import contextlib
import importlib
import io
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmark import rows
from trainer import tf_startup

# The reference recipe's augmentation and network, for Keras and PyTorch alike.
SHEAR = 0.2  # Degrees.
ZOOM = 0.2
# Filters of the convolutions, and units of the dense layers.
FILTERS = (32, 32, 64, 64, 128)
UNITS = (512, 256, 128, 64)
_BUILDER_PNG_LEVEL = 1
_MEASURES: dict[str, Callable[[], float]] = {}  # Of this process, if it is a peer's.


class PeerProcess:
    """A measurement that is set up and taken in a new process.

    Attributes:
      cores: mean number of busy cores during the last measurement.

    Args:
      target: "module:function" of this package. The function is called with `settings` and
        returns the measurement, a function that returns a number.
      **settings: must be picklable.

    Raises:
      ImportError: a package that the function needs is not installed.
    """

    def __init__(self, target: str, **settings: Any) -> None:
        self.cores = 0.0
        # Spawned, not forked: TensorFlow and OpenMP do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._process = concurrent.futures.ProcessPoolExecutor(1, mp_context=context)
        try:
            self._process.submit(_set_up, target, settings).result()
        except BaseException:
            self.close()
            raise

    def __call__(self) -> float:
        value, self.cores = self._process.submit(_measure).result()
        return value

    def close(self) -> None:
        """Ends the process."""
        self._process.shutdown()


def start_peers(
    stack: contextlib.ExitStack, *specs: tuple[str, dict[str, Any]]
) -> list[PeerProcess | None]:
    """Starts several peers, two at a time.

    Args:
      stack: closes them.
      *specs: (target, settings) of each, see `PeerProcess`.

    Returns:
      The peers; None for one whose package is not installed.
    """

    def start(spec: tuple[str, dict[str, Any]]) -> PeerProcess | None:
        target, settings = spec
        try:
            peer = PeerProcess(target, **settings)
        except ImportError:
            return None
        stack.callback(peer.close)  # At once: another one may fail.
        return peer

    # Two: imports and tracing, which are most of the start, keep one core busy each.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(start, specs))


def pillow_squares(paths: Sequence[str], side: int) -> None:
    """Decodes, resizes and encodes images with Pillow alone.

    A builder must do at least this.

    Args:
      paths: image files.
      side: of the grey squares, in pixels. Their PNG bytes are dropped.
    """
    for path in paths:
        with Image.open(path) as image:
            square = image.convert("L").resize((side, side), Image.Resampling.BILINEAR)
        square.save(io.BytesIO(), "PNG", compress_level=_BUILDER_PNG_LEVEL)


def torch_loader_rate(
    count: int, side: int, batch: int, batches: int, workers: int
) -> Callable[[], float]:
    """Prepares the measurement of a DataLoader with torchvision's augmentation.

    Its worker processes augment images in memory one by one. torchvision zooms both axes alike;
    the rest is the reference's.

    Args:
      count: images in memory, of noise.
      side: in pixels.
      batch: images in each batch.
      batches: batches of one measurement.
      workers: processes, and threads of this one.

    Returns:
      A function that returns images a second.
    """
    import torch
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import InterpolationMode, v2

    torch.set_num_threads(workers)
    rng = np.random.default_rng(0)
    # [count, 1, side, side]
    images = torch.from_numpy(rng.integers(0, 256, (count, 1, side, side), np.uint8))
    bilinear = InterpolationMode.BILINEAR
    affine = v2.RandomAffine(0, scale=(1 - ZOOM, 1 + ZOOM), shear=SHEAR, interpolation=bilinear)
    to_unit_range = v2.ToDtype(torch.float32, scale=True)
    augment = v2.Compose([v2.RandomHorizontalFlip(), affine, to_unit_range])

    class Squares(Dataset):
        def __len__(self) -> int:
            return batch * (batches + 1)  # The first batch is not counted.

        def __getitem__(self, index: int) -> torch.Tensor:
            return augment(images[index % count])

    # Forked, the default on Linux: this process was spawned and would hand that on.
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    loader = DataLoader(
        Squares(),
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="fork" if can_fork else None,
    )

    def measure() -> float:
        return batch * batches / rows.time_batches(loader, batches)

    measure()  # Starts the workers.
    return measure


def torch_step(side: int, batch: int, steps: int, compiled: bool) -> Callable[[], float]:
    """Prepares the measurement of PyTorch's training step: channels-last, Adam.

    Args:
      side: of the images, in pixels.
      batch: images in the batch.
      steps: steps of one measurement, all on one batch in memory.
      compiled: whether torch.compile is used.

    Returns:
      A function that returns the seconds of one step.
    """
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    channels = 1
    width = side
    for filters in FILTERS:
        layers += [nn.Conv2d(channels, filters, 3), nn.ReLU(), nn.MaxPool2d(2)]
        channels = filters
        width = (width - 2) // 2  # Convolution without padding, pooling.
    layers += [nn.Dropout(0.5), nn.Flatten()]
    features = channels * width**2  # After flattening.
    for units in UNITS:
        layers += [nn.Linear(features, units), nn.ReLU()]
        features = units
    network = nn.Sequential(*layers, nn.Linear(features, 2))
    model = network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    # [batch, 1, side, side] float32 in 0..1; dividing is part of the step.
    images = torch.rand(batch, 1, side, side).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 2

    def compute_loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(model(images / 255.0), labels)

    loss_function = torch.compile(compute_loss) if compiled else compute_loss

    def run_steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_function(images, labels)
            loss.backward()
            optimizer.step()
            loss.item()  # As a loop that logs the loss does.

    run_steps(1)  # Compiles.
    return lambda: rows.elapsed(lambda: run_steps(steps)) / steps


def _set_up(target: str, settings: dict[str, Any]) -> None:
    """Prepares the measurement of this process."""
    module_name, _, function_name = target.partition(":")
    if module_name != "peers":  # The other modules import TensorFlow.
        tf_startup.start_tensorflow()
    module = importlib.import_module(f"tests.benchmark.{module_name}")
    _MEASURES["measure"] = getattr(module, function_name)(**settings)


def _measure() -> tuple[float, float]:
    return rows.measure_once(_MEASURES["measure"])
