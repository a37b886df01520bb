"""Opacities painted into the lungs, and decoys outside them, so that paint is no clue.

    painted, opacities = paint.paint(images, lungs, seed, share=0.6)

What is painted follows what radiographs show (Fleischner glossary, doi:10.1148/radiol.2462070712):
ground glass, through which vessels stay visible; consolidation, which hides them; reticular lines;
and effusion, from the base upwards. Opacities prefer the base and the periphery of the lungs, on
one side or both. Their brightness is relative to the film's own soft tissue. All is drawn on-graph
from a seed.
"""

import itertools

import tensorflow as tf

DECOYS = 0.5  # Share of the images with paint outside the lungs, with and without opacities.

# Cells of smooth noise a side, from patches down to small spots → its largest weight.
_WEIGHTS = {4: 1.0, 8: 0.8, 16: 0.4, 40: 0.15}
_LINE_CELLS = 24
_HIDDEN = 0.9  # Share of the way to soft tissue that full opacity covers.
_ADDED = 0.5  # Share of soft tissue's level that full opacity adds.
_MIN_TISSUE = 0.60  # Soft tissue lies between these quantiles of the film.
_MAX_TISSUE = 0.97
_QUANTILE_SIDE = 32  # Side length of the image that quantiles are taken of.


def paint(
    images: tf.Tensor,
    lungs: tf.Tensor,
    seed: tf.Tensor,
    share: float,
    first: int = 0,
    batch_size: int | tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Paints opacities into the lungs of some images, and decoys outside those of others.

    Args:
      images: [n, side, side, 1] float32 in 0..255.
      lungs: [n, side, side, 1] float32 in 0..1, masks of both lungs; where a mask is empty, nothing
        is painted.
      seed: [2] int64; one seed gives one result.
      share: of the images to paint opacities into, in 0..1.
      first: position of the first image in its batch.
      batch_size: size of that batch; by default the images are the whole of it.

    Returns:
      The images, and the opacity of what was painted into the lungs: [n, side, side, 1] float32 in
      0..1, 0 everywhere in images without opacities. Decoys do not count.
    """
    count = tf.shape(images)[0]
    if batch_size is None:
        batch_size = count
    draw = _Draw(seed, batch_size, slice(first, first + count), images.shape[1])
    tissue = _quantile(images, draw.uniform(_MIN_TISSUE, _MAX_TISSUE))  # [n, 1, 1, 1]
    across, down = _positions(lungs)
    images = _shade(draw, images, across, down)
    has_lungs = tf.cast(tf.reduce_mean(lungs, [1, 2, 3], keepdims=True) > 0.02, tf.float32)
    painted = has_lungs * draw.flag(share)
    opacity = painted * _opacity(draw, lungs, across, down)
    decoy = draw.flag(DECOYS) * _patches(draw, 1.0 - _soften(lungs, 0.06), across, down)
    images = _brighten(draw, images, decoy * draw.uniform(0.2, 1.0), tissue)
    images = _brighten(draw, images, opacity, tissue)
    return images, opacity


class _Draw:
    # Random numbers of a slice of a batch, each call from a stream of its own. They are drawn for
    # the whole batch, so that a slice of it gets the same.

    def __init__(self, seed: tf.Tensor, batch_size: int | tf.Tensor, rows: slice, side: int):
        self._streams = (
            tf.random.experimental.stateless_fold_in(seed, stream) for stream in itertools.count()
        )
        self._batch_size = batch_size
        self._rows = rows
        self._side = side

    def uniform(self, low: float, high: float) -> tf.Tensor:
        # [n, 1, 1, 1]
        shape = [self._batch_size, 1, 1, 1]
        return tf.random.stateless_uniform(shape, next(self._streams), low, high)[self._rows]

    def exponential(self, low: float, high: float) -> tf.Tensor:
        # e to the power of a uniform number, [n, 1, 1, 1]. The last bit may differ on a slice.
        shape = [self._batch_size, 1, 1, 1]
        powers = tf.random.stateless_uniform(shape, next(self._streams), low, high)
        return tf.exp(powers)[self._rows]

    def flag(self, share: float) -> tf.Tensor:
        # [n, 1, 1, 1], 1 with this probability, else 0.
        return tf.cast(self.uniform(0.0, 1.0) < share, tf.float32)

    def noise(self, cells: int) -> tf.Tensor:
        # [n, side, side, 1], smooth, of deviation near 1.
        shape = [self._batch_size, cells, cells, 1]
        normal = tf.random.stateless_normal(shape, next(self._streams))[self._rows]
        return tf.image.resize(normal, [self._side, self._side], "bicubic")


def _shade(draw: _Draw, images: tf.Tensor, across: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    # Brightness that is no opacity: slow changes over the film, and the shadows of breasts.
    images += draw.flag(0.7) * draw.uniform(0.0, 25.0) * draw.noise(3)
    centre = draw.uniform(0.4, 0.7)
    radius = draw.uniform(0.4, 0.8)
    drop = (down - draw.uniform(0.2, 0.9)) / draw.uniform(0.6, 1.2)
    distance = tf.sqrt(tf.square(tf.abs(across) - centre) + tf.square(drop))
    shadow = tf.sigmoid((radius - distance) * draw.uniform(5.0, 30.0))
    images += draw.flag(0.4) * draw.uniform(0.0, 40.0) * shadow
    return tf.clip_by_value(images, 0.0, 255.0)


def _opacity(draw: _Draw, lungs: tf.Tensor, across: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    # Patches with texture, reticular lines, or an effusion; [n, side, side, 1] in 0..1.
    inside = _soften(lungs, 0.02) * lungs
    patches = _patches(draw, inside, across, down)
    lines = tf.exp(-tf.square(draw.noise(_LINE_CELLS) / draw.uniform(0.2, 0.5)))
    reticular = draw.flag(0.25) * draw.uniform(0.3, 0.8)
    patches *= 1.0 - reticular + reticular * lines
    # Its level rises towards the chest wall (meniscus).
    level = draw.uniform(0.5, 1.1) - 0.25 * tf.square(across)
    effusion = draw.flag(0.1) * inside * tf.sigmoid((down - level) * draw.uniform(10.0, 40.0))
    return tf.maximum(patches * draw.uniform(0.2, 1.0), effusion * draw.uniform(0.6, 1.0))


def _patches(draw: _Draw, region: tf.Tensor, across: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    # Smooth patches within a region, [n, side, side, 1] in 0..1.
    field = tf.add_n(
        [draw.uniform(0.0, weight) * draw.noise(cells) for cells, weight in _WEIGHTS.items()]
    )
    field += draw.uniform(-0.3, 1.6) * down + draw.uniform(-0.3, 1.6) * tf.abs(across)
    one_sided = draw.flag(0.3) * draw.uniform(-4.0, 4.0)
    field += one_sided * across
    mean, deviation = _moments(field, region)
    field = (field - mean) / (deviation + 1e-3) - draw.uniform(-1.2, 1.5)
    return region * tf.sigmoid(field * draw.exponential(0.4, 1.8))


def _brighten(draw: _Draw, images: tf.Tensor, opacity: tf.Tensor, tissue: tf.Tensor) -> tf.Tensor:
    # Mixes two ways: towards soft tissue, which hides what lies behind, and by addition.
    hidden = images + _HIDDEN * opacity * (tissue - images)
    added = tf.minimum(images + _ADDED * opacity * tissue, tf.maximum(images, 1.1 * tissue))
    mix = draw.uniform(0.0, 1.0)
    return tf.clip_by_value(mix * hidden + (1.0 - mix) * added, 0.0, 255.0)


def _positions(lungs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    # (across, down), [n, side, side, 1]: near -1..1 from the lungs' middle to their edges.
    side = lungs.shape[1]
    line = tf.range(side, dtype=tf.float32) / side
    positions = []
    for axis in (2, 1):
        values = tf.reshape(line, [1, -1, 1, 1] if axis == 1 else [1, 1, -1, 1])
        mean, deviation = _moments(values + tf.zeros_like(lungs), lungs)
        positions.append((values - mean) / (1.7 * deviation + 0.05) + tf.zeros_like(lungs))
    return positions[0], positions[1]


def _moments(values: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    # Weighted mean and deviation of each image, [n, 1, 1, 1].
    total = tf.reduce_sum(weights, [1, 2, 3], keepdims=True) + 1e-3
    mean = tf.reduce_sum(values * weights, [1, 2, 3], keepdims=True) / total
    square = tf.reduce_sum(tf.square(values - mean) * weights, [1, 2, 3], keepdims=True) / total
    return mean, tf.sqrt(square)


def _quantile(images: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    # The grey level below which this share of each image lies, [n, 1, 1, 1].
    small = tf.image.resize(images, [_QUANTILE_SIDE, _QUANTILE_SIDE], "area")
    ordered = tf.sort(tf.reshape(small, [-1, _QUANTILE_SIDE**2]), axis=1)
    rank = tf.cast(share[:, :, 0, 0] * (_QUANTILE_SIDE**2 - 1), tf.int32)  # [n, 1]
    return tf.gather(ordered, rank, axis=1, batch_dims=1)[:, :, None, None]


def _soften(masks: tf.Tensor, share: float) -> tf.Tensor:
    # Averages masks over a window of this share of the side.
    width = 2 * max(round(share * masks.shape[1] / 2), 1) + 1
    return tf.nn.avg_pool2d(masks, width, 1, "SAME")
