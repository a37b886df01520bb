"""The losses of an example: of classes, of several findings, and of painted opacities.

weights = class_weights(expected_counts(labels, classes), used=True)
losses = class_losses(batch["label"], logits, weights, label_smoothing=0.0)    # [batch]
"""

import numpy as np
import tensorflow as tf

_DICE_PRIOR = 4.0  # pixels; where nothing is painted, few predicted pixels cost little


def expected_counts(
    labels: np.ndarray, classes: int, painted: float = 0.0, positive: int | None = None
) -> np.ndarray:
    """Counts the images of each class as training sees them.

    Returns:
      [classes] float; of findings [findings, 2], images without and with each.

    Args:
      labels: [n] int, or [n, findings] int.
      classes: number of classes.
      painted: share of the images that opacities are painted into, in 0..1.
      positive: the class that these are of.
    """
    if labels.ndim == 2:
        return np.stack([(labels == value).sum(axis=0) for value in (0, 1)], axis=1).astype(float)
    counts = np.bincount(labels, minlength=classes).astype(float)
    if positive is None:
        return counts
    counts *= 1.0 - painted
    counts[positive] += painted * len(labels)
    return counts


def class_weights(counts: np.ndarray, used: bool) -> tf.Tensor:
    """The weight of each class, inverse to its frequency.

    Args:
      counts: [classes] float, images of each class; of findings [findings, 2].
      used: whether to weight at all.

    Returns:
      float32 of the shape of `counts` with a mean of 1 over the images, of each finding; all ones
      if not used.
    """
    if not used:
        return tf.ones(counts.shape)
    total = counts.sum(axis=-1, keepdims=True)
    return tf.constant(total / (counts.shape[-1] * np.maximum(counts, 1.0)), tf.float32)


def class_losses(
    labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor, label_smoothing: float
) -> tf.Tensor:
    """Computes the weighted cross-entropy of each example.

    Args:
      labels: [batch] int32.
      logits: [batch, classes].
      weights: [classes] float32.
      label_smoothing: share of the target spread over all classes.

    Returns:
      [batch].
    """
    classes = logits.shape[-1]
    targets = tf.one_hot(labels, classes, dtype=logits.dtype)  # [batch, classes]
    targets = targets * (1.0 - label_smoothing) + label_smoothing / classes
    losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)  # [batch]
    return losses * tf.cast(tf.gather(weights, labels), logits.dtype)


def finding_losses(
    labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor, label_smoothing: float
) -> tf.Tensor:
    """Computes the weighted binary cross-entropy of each example, the mean over findings.

    Args:
      labels: [batch, findings] int32: 1, 0, or -1 for unknown, which adds nothing.
      logits: [batch, findings].
      weights: [findings, 2] float32, of images without and with each.
      label_smoothing: share of the target spread over presence and absence.

    Returns:
      [batch].
    """
    present = tf.cast(labels == 1, logits.dtype)  # [batch, findings]
    targets = present * (1.0 - label_smoothing) + label_smoothing / 2.0
    losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    absent_weight, present_weight = tf.unstack(tf.cast(weights, logits.dtype), axis=1)
    losses *= present * present_weight + (1.0 - present) * absent_weight
    # Divided by all findings: the gradient of a known one does not depend on the others.
    return tf.reduce_mean(losses * tf.cast(labels >= 0, logits.dtype), axis=1)


def finding_accuracies(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Computes the share of each example's known findings that are right at one half, [batch]."""
    labelled = tf.cast(labels >= 0, tf.float32)  # [batch, findings]
    correct = tf.cast(tf.equal(logits >= 0.0, labels == 1), tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(correct * labelled, 1), tf.reduce_sum(labelled, 1))


def opacity_losses(opacity: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Computes cross-entropy and half of the Dice loss (Milletari 2016, arXiv:1606.04797).

    Args:
      opacity: [batch, side, side, 1] float32 in 0..1.
      logits: [batch, side / s, side / s, 1].

    Returns:
      [batch].
    """
    target = tf.cast(tf.image.resize(opacity, logits.shape[1:3], "area"), logits.dtype)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
    predicted = tf.sigmoid(logits)
    axes = [1, 2, 3]
    overlap = 2.0 * tf.reduce_sum(predicted * target, axes) + _DICE_PRIOR
    sizes = tf.reduce_sum(tf.square(predicted) + tf.square(target), axes) + _DICE_PRIOR
    return tf.reduce_mean(entropy, axes) + 0.5 * (1.0 - overlap / sizes)
