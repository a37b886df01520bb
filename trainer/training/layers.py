"""Layers of our own: batch normalisation that waits less, dropout whose masks do not depend on the layout, bias with ReLU,
resampling to the network's side."""

import contextlib
import contextvars
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

_EXAMPLE_SEEDS: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar(
    "example_seeds", default=None
)


@contextlib.contextmanager
def example_seeds(seeds: tf.Tensor) -> Iterator[None]:
    """Within this context `StatelessDropout` draws the mask of example i from seeds[i] ([batch, 2] int64)."""
    token = _EXAMPLE_SEEDS.set(seeds)
    try:
        yield
    finally:
        _EXAMPLE_SEEDS.reset(token)


@keras.saving.register_keras_serializable("trainer")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation (Ioffe 2015) over the global batch; replicas wait for one another once, not three times.

    In training, sums and sums of squares are exchanged together, and the number of values is not exchanged: each replica has
    as many. On one replica the result is that of `synchronized=True` to the bit.
    """

    def _moments(self, inputs: tf.Tensor, mask: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        if mask is not None or context is None:
            return super()._moments(inputs, mask)
        sums = [
            tf.reduce_sum(values, self._reduction_axes) for values in (inputs, tf.square(inputs))
        ]
        total, of_squares = context.all_reduce("sum", sums)
        count = tf.cast(
            tf.size(inputs) // inputs.shape[-1] * context.num_replicas_in_sync, inputs.dtype
        )
        mean = tf.math.divide_no_nan(total, count)
        return mean, tf.maximum(tf.math.divide_no_nan(of_squares, count) - tf.square(mean), 0.0)


@keras.saving.register_keras_serializable("trainer")
class StatelessDropout(keras.layers.Layer):
    """Dropout (Srivastava 2014) whose mask is a function of each example's seed alone.

    `keras.layers.Dropout` keeps one seed state a replica, so replicas share masks and a restart draws others. Here the
    mask of an example does not depend on the replica, on its neighbours or on what was drawn before.

    Args:
      rate: share of values set to zero, in [0, 1); the others are scaled by 1 / (1 - rate).
      salt: tells the dropout layers of one network apart.

    Raises:
      RuntimeError: called for training outside `example_seeds`.
    """

    def __init__(self, rate: float, salt: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.salt = rate, salt

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.rate == 0.0:
            return inputs
        seeds = _EXAMPLE_SEEDS.get()
        if seeds is None:
            raise RuntimeError(
                "StatelessDropout needs seeds in training: call the model within "
                "layers.example_seeds(...)."
            )
        uniform = tf.map_fn(self._draw(inputs.shape[1:]), seeds, fn_output_signature=tf.float32)
        kept = tf.cast(uniform >= self.rate, inputs.dtype)
        return inputs * kept / tf.cast(1.0 - self.rate, inputs.dtype)

    def _draw(self, shape: tf.TensorShape):
        return lambda seed: tf.random.stateless_uniform(
            shape, tf.random.experimental.stateless_fold_in(seed, self.salt)
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate, "salt": self.salt}


@keras.saving.register_keras_serializable("trainer")
class BiasReLU(keras.layers.Layer):
    """Adds a bias to each channel and sets what is negative to zero.

    Both rise with their input, so after max-pooling they give exactly what they give before it, for a quarter of the work.
    """

    def build(self, input_shape: tuple) -> None:
        self.bias = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="bias")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(tf.nn.bias_add(inputs, self.bias))


@keras.saving.register_keras_serializable("trainer")
class Resample(keras.layers.Layer):
    """Resizes squares by a separable antialiased triangle filter, as two matrix products, and rounds to whole levels.

    Written as matrix products it exports to every runtime and gives the same numbers in all of them; rounding makes it
    equal to the uint8 images training is fed (`resample_images`).

    Args:
      side: of the square that comes out, in pixels.
    """

    def __init__(self, side: int, **kwargs):
        super().__init__(**kwargs)
        self.side = side

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[batch, height, width, 1] float32 in 0..255 → [batch, side, side, 1] float32, whole numbers in 0..255."""
        rows = tf.constant(triangle_filter(inputs.shape[1], self.side))
        columns = tf.constant(triangle_filter(inputs.shape[2], self.side))
        squares = tf.cast(inputs, tf.float32)[..., 0]
        resized = tf.matmul(tf.matmul(rows[None], squares), columns[None], transpose_b=True)
        return tf.round(resized)[..., None]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.side, self.side, 1)

    def get_config(self) -> dict:
        return {**super().get_config(), "side": self.side}


def triangle_filter(size: int, side: int) -> np.ndarray:
    """The matrix that resamples a row of `size` pixels to `side`, [side, size] float32; each row sums to 1.

    Antialiased: shrinking by s widens the triangle to s pixels, as Pillow's BILINEAR does
    (https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters).
    """
    scale = size / side
    centres = (np.arange(side) + 0.5) * scale - 0.5
    distances = np.abs(centres[:, None] - np.arange(size)[None, :]) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distances)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resample_images(images: np.ndarray, side: int) -> np.ndarray:
    """`Resample` over a set held in memory: [n, size, size, 1] uint8 → [n, side, side, 1] uint8; as they are if they fit."""
    if images.shape[1] == side:
        return images
    layer = Resample(side, dtype="float32")
    parts = [
        layer(images[start : start + 64]).numpy().astype(np.uint8)
        for start in range(0, len(images), 64)
    ]
    return np.concatenate(parts)
