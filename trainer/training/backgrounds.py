"""Backgrounds swapped outside the lungs, so that markers and collimation tell no class.

    images = backgrounds.swap(images, lungs, partners, chosen)

As BackMix (Wang 2024, arXiv:2406.19148): the partner is any image of the training split.
"""

import tensorflow as tf

_EDGE = 0.06  # Width of the soft edge around the lungs, as a share of the side.


def swap(images: tf.Tensor, lungs: tf.Tensor, partners: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Replaces what lies outside the lungs by the same place of another image.

    Args:
      images: [n, side, side, 1] float32 in 0..255.
      lungs: [n, side, side, 1] float32 in 0..1, masks; an image with an empty one stays as it is.
      partners: [n, side, side, 1] float32 in 0..255.
      chosen: [n] bool, the images to change.

    Returns:
      [n, side, side, 1] float32 in 0..255.
    """
    width = 2 * max(round(_EDGE * images.shape[1] / 2), 1) + 1
    # Widened, then softened: the edge of a mask may be wrong.
    kept = tf.nn.avg_pool2d(tf.nn.max_pool2d(lungs, width, 1, "SAME"), width, 1, "SAME")
    changed = chosen & tf.reduce_any(lungs > 0.5, axis=[1, 2, 3])  # [n]
    return tf.where(changed[:, None, None, None], kept * images + (1.0 - kept) * partners, images)
