"""Image arrays in memory that TensorFlow takes over without a copy.

    images = aligned.empty((100, 64, 64, 1))
    tensor = aligned.as_tensor(aligned.take(images, indices))

TensorFlow needs addresses that are multiples of 64; NumPy's own arrays begin 16 bytes after a page.
"""

import math

import numpy as np
import tensorflow as tf

_ALIGNMENT = 64  # bytes


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """Allocates an array of uint8, without values."""
    size = math.prod(shape)  # bytes
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT  # bytes to the next multiple of 64
    return buffer[start : start + size].reshape(shape)


def take(images: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Copies images[indices], [n, ...] uint8, into aligned memory.

    Args:
      images: [m, ...] uint8.
      indices: [n] int, or [m] bool.

    Raises:
      IndexError: an index is out of range.
    """
    rows = np.arange(len(images))[indices]  # from int or bool indices
    return np.take(
        images,
        rows,
        axis=0,
        out=empty((len(rows), *images.shape[1:])),
        mode="clip",  # the default "raise" fills a buffer first
    )


def as_tensor(images: np.ndarray) -> tf.Tensor:
    """Makes a tensor in the same memory, which must not be written again.

    Memory that is not aligned is copied.
    """
    if (
        images.ctypes.data % _ALIGNMENT
        or not images.flags.c_contiguous
        or not images.flags.writeable
        or not images.size
    ):
        return tf.constant(images)
    # Memory that is not aligned would end the process here.
    return tf.experimental.dlpack.from_dlpack(images.__dlpack__())
