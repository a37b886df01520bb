"""Layers of this project.

`BatchNormalization` exchanges less between replicas, `StatelessDropout` draws masks from seeds of
the examples, `BiasReLU` fuses two operations, `gelu` exports to ONNX, and `Resample` brings squares
to the network's side.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_EXAMPLE_SEEDS: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar(
    "example_seeds", default=None
)


@contextlib.contextmanager
def example_seeds(seeds: tf.Tensor) -> Iterator[None]:
    """Sets the seeds of `StatelessDropout`: example i draws from seeds[i].

    Args:
      seeds: [batch, 2] int64.
    """
    token = _EXAMPLE_SEEDS.set(seeds)
    try:
        yield
    finally:
        _EXAMPLE_SEEDS.reset(token)


@keras.saving.register_keras_serializable("trainer")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation (Ioffe 2015) with one exchange between replicas.

    Keras needs three. Here sums and sums of squares are exchanged together, and the number of
    values is not exchanged, because each replica has as many. On one replica the result is that of
    `synchronized=True` to the bit. It normalises the last axis; with a mask it is Keras's own.
    """

    # Saved models name `mask` among the arguments of a call.
    def call(
        self, inputs: tf.Tensor, training: bool = False, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Normalises [batch, ..., channels], and in training updates the moving averages."""
        context = tf.distribute.get_replica_context()
        if not (training and self.trainable) or mask is not None or context is None:
            return super().call(inputs, training=training, mask=mask)
        inputs = tf.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        axes = list(range(len(inputs.shape) - 1))
        # All by channel, [channels], over the global batch.
        sums, square_sums = context.all_reduce(
            "sum",
            [tf.reduce_sum(inputs, axes), tf.reduce_sum(tf.square(inputs), axes)],
        )
        count = tf.cast(
            tf.size(inputs) // inputs.shape[-1] * context.num_replicas_in_sync,
            inputs.dtype,
        )
        mean = tf.math.divide_no_nan(sums, count)
        variance = tf.math.divide_no_nan(square_sums, count) - tf.square(mean)
        variance = tf.maximum(variance, 0.0)  # rounding can make it negative
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(
                tf.cast(average, inputs.dtype) * self.momentum + value * (1.0 - self.momentum)
            )
        return tf.cast(
            keras.ops.batch_normalization(
                x=inputs,
                mean=mean,
                variance=variance,
                axis=self.axis,
                offset=None if self.beta is None else tf.cast(self.beta, inputs.dtype),
                scale=None if self.gamma is None else tf.cast(self.gamma, inputs.dtype),
                epsilon=self.epsilon,
            ),
            self.compute_dtype,
        )


@keras.saving.register_keras_serializable("trainer")
class StatelessDropout(keras.layers.Layer):
    """Dropout (Srivastava 2014) whose mask depends on each example's seed alone.

    `keras.layers.Dropout` has one seed state a replica, so replicas share masks and a restart draws
    others. Here the mask of an example does not depend on the replica, on the rest of the batch or
    on earlier draws.

    Args:
      rate: share of values set to zero, in [0, 1); the others are scaled by 1 / (1 - rate).
      salt: tells the dropout layers of one network apart.
      whole: whether an example is dropped as a whole (stochastic depth, Huang 2016,
        arXiv:1603.09382).

    Raises:
      RuntimeError: called for training outside `example_seeds`.
    """

    def __init__(self, rate: float, salt: int = 0, whole: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = rate
        self.salt = salt
        self.whole = whole

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Applies the mask to [batch, ...] in training."""
        if not training or self.rate == 0.0:
            return inputs
        seeds = _EXAMPLE_SEEDS.get()
        if seeds is None:
            raise RuntimeError(
                "StatelessDropout needs seeds in training: call the model within "
                "layers.example_seeds(...)."
            )

        shape = [1] * (len(inputs.shape) - 1) if self.whole else inputs.shape[1:]

        def draw(seed: tf.Tensor) -> tf.Tensor:
            seed = tf.random.experimental.stateless_fold_in(seed, self.salt)
            return tf.random.stateless_uniform(shape, seed)

        uniform = tf.map_fn(draw, seeds, fn_output_signature=tf.float32)  # [batch, ...]
        mask = tf.cast(uniform >= self.rate, inputs.dtype)
        return inputs * mask / tf.cast(1.0 - self.rate, inputs.dtype)

    def get_config(self) -> dict:
        """The arguments, for saving."""
        return {**super().get_config(), "rate": self.rate, "salt": self.salt, "whole": self.whole}


@keras.saving.register_keras_serializable("trainer")
class BiasReLU(keras.layers.Layer):
    """Adds a bias to each channel and applies ReLU.

    Both are increasing functions, so after max-pooling they give the same values as before it, for
    a quarter of the work.
    """

    def build(self, input_shape: tuple) -> None:
        """Creates the bias, [channels]."""
        self.bias = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="bias")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[batch, height, width, channels], same shape out."""
        return tf.nn.relu(tf.nn.bias_add(inputs, self.bias))


@keras.saving.register_keras_serializable("trainer")
class Resample(keras.layers.Layer):
    """Resizes squares by a separable antialiased triangle filter.

    As two matrix products it exports to every runtime and gives the same numbers in all of them. It
    rounds to whole levels, so it equals the uint8 images of training (`resample_images`).

    Args:
      side: side length of the output, in pixels.
    """

    def __init__(self, side: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.side = side

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Resizes [batch, height, width, 1] to [batch, side, side, 1] float32, whole numbers."""
        row_filter = tf.constant(triangle_filter(inputs.shape[1], self.side))  # [side, height]
        column_filter = tf.constant(triangle_filter(inputs.shape[2], self.side))  # [side, width]
        images = tf.cast(inputs, tf.float32)[..., 0]  # [batch, height, width]
        images = tf.matmul(row_filter[None], images)  # [batch, side, width]
        images = tf.matmul(images, column_filter[None], transpose_b=True)  # [batch, side, side]
        return tf.round(images)[..., None]

    def get_config(self) -> dict:
        """The arguments, for saving."""
        return {**super().get_config(), "side": self.side}


@keras.saving.register_keras_serializable("trainer")
def gelu(inputs: tf.Tensor) -> tf.Tensor:
    """The Gaussian error linear unit (Hendrycks 2016, arXiv:1606.08415), exactly.

    tf.nn.gelu uses erfc, which tf2onnx cannot convert.
    """
    return 0.5 * inputs * (1.0 + tf.math.erf(inputs * 0.5**0.5))


def triangle_filter(size: int, side: int) -> np.ndarray:
    """The matrix that resamples a row of pixels.

    Antialiased: shrinking by s widens the triangle to s pixels, as Pillow's BILINEAR does
    (https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters).

    Args:
      size: length of the row, in pixels.
      side: length after resampling, in pixels.

    Returns:
      [side, size] float32; each row sums to 1.
    """
    scale = size / side
    centres = (np.arange(side) + 0.5) * scale - 0.5  # [side], in pixels of the input
    distances = np.abs(centres[:, None] - np.arange(size)[None, :]) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distances)  # [side, size]
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resample_images(images: np.ndarray, side: int) -> np.ndarray:
    """Resizes a set in memory, as `Resample` does.

    Args:
      images: [n, size, size, 1] uint8.
      side: side length of the output, in pixels.

    Returns:
      [n, side, side, 1] uint8; `images` itself if it has that side.
    """
    if images.shape[1] == side:
        return images
    resample = Resample(side, dtype="float32")
    # 64 images at a time, so that little memory is needed in float32.
    return np.concatenate(
        [
            resample(images[start : start + 64]).numpy().astype(np.uint8)
            for start in range(0, len(images), 64)
        ]
    )
