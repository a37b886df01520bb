"""Opacities painted into the lungs, and decoys outside them, so that paint is no clue.

    painted, opacities = paint.paint(images, lungs, seed, share=0.6)

What is painted follows what radiographs show (Fleischner glossary, doi:10.1148/radiol.2462070712):
ground glass, through which vessels stay visible; consolidation, which hides them; reticular lines;
and effusion, from the base upwards. Opacities prefer the base and the periphery of the lungs, on
one side or both. Their brightness is relative to the film's own soft tissue. All is drawn on-graph
from a seed.
"""

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
_COARSE = 2  # Side of the pixels that all but the image is drawn in: fields are smooth.
_UNIFORMS = 64  # Uniform numbers an image.
# Cells a side of a field of smooth noise → how many fields an image.
_FIELDS = {3: 1, _LINE_CELLS: 1, **dict.fromkeys(_WEIGHTS, 2)}


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
    numbers = _draw_numbers(seed, count if batch_size is None else batch_size)
    # Drawn for the whole batch, so that a slice of it gets the same.
    numbers = {name: values[first : first + count] for name, values in numbers.items()}
    side = images.shape[1]
    draw = _Draw(numbers, -(-side // _COARSE))
    small = tf.image.resize(lungs, [draw.side, draw.side], "area")
    across, down = _positions(small)
    inside = _soften(small, 0.02) * small
    outside = 1.0 - _soften(small, 0.06)
    has_lungs = tf.cast(tf.reduce_mean(lungs, [1, 2, 3], keepdims=True) > 0.02, tf.float32)
    opacity = has_lungs * draw.flag(share) * _opacity(draw, inside, across, down)
    decoys = draw.flag(DECOYS) * _patches(draw, outside, across, down) * draw.uniform(0.2, 1.0)
    fields = tf.concat([_shades(draw, across, down), opacity, decoys], axis=3)
    shades, opacity, decoys = tf.split(tf.image.resize(fields, [side, side]), 3, axis=3)
    opacity *= lungs
    tissue = _quantile(images, draw.uniform(_MIN_TISSUE, _MAX_TISSUE))  # [n, 1, 1, 1]
    images = tf.clip_by_value(images + shades, 0.0, 255.0)
    images = _brighten(draw, images, decoys, tissue)
    return _brighten(draw, images, opacity, tissue), opacity


def _draw_numbers(seed: tf.Tensor, batch_size: int | tf.Tensor) -> dict[str, tf.Tensor]:
    # All random numbers: uniform [n, 64] in [0, 1), and by cells a side, normal ones
    # [n, fields, cells, cells].
    fold_in = tf.random.experimental.stateless_fold_in
    uniform = tf.random.stateless_uniform([batch_size, _UNIFORMS], fold_in(seed, 0))
    fields = {
        f"fields{cells}": tf.random.stateless_normal(
            [batch_size, count, cells, cells], fold_in(seed, cells)
        )
        for cells, count in _FIELDS.items()
    }
    return {"uniform": uniform} | fields


class _Draw:
    # Hands out the random numbers of a batch, each of them once.

    def __init__(self, numbers: dict[str, tf.Tensor], side: int):
        self._numbers = {name: iter(tf.unstack(x, axis=1)) for name, x in numbers.items()}
        self.side = side

    def uniform(self, low: float, high: float) -> tf.Tensor:
        # [n, 1, 1, 1]
        return low + (high - low) * next(self._numbers["uniform"])[:, None, None, None]

    def flag(self, share: float) -> tf.Tensor:
        # [n, 1, 1, 1], 1 with this probability, else 0.
        return tf.cast(self.uniform(0.0, 1.0) < share, tf.float32)

    def noise(self, cells: int) -> tf.Tensor:
        # [n, side, side, 1], smooth, of deviation near 1.
        field = next(self._numbers[f"fields{cells}"])[..., None]
        return tf.image.resize(field, [self.side, self.side], "bicubic")


def _shades(draw: _Draw, across: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    # Brightness that is no opacity: slow changes over the film, and the shadows of breasts.
    changes = draw.flag(0.7) * draw.uniform(0.0, 25.0) * draw.noise(3)
    centre = draw.uniform(0.4, 0.7)
    radius = draw.uniform(0.4, 0.8)
    drop = (down - draw.uniform(0.2, 0.9)) / draw.uniform(0.6, 1.2)
    distance = tf.sqrt(tf.square(tf.abs(across) - centre) + tf.square(drop))
    shadow = tf.sigmoid((radius - distance) * draw.uniform(5.0, 30.0))
    return changes + draw.flag(0.4) * draw.uniform(0.0, 40.0) * shadow


def _opacity(draw: _Draw, inside: tf.Tensor, across: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    # Patches with texture, reticular lines, or an effusion; [n, side, side, 1] in 0..1.
    patches = _patches(draw, inside, across, down)
    lines = tf.exp(-tf.square(draw.noise(_LINE_CELLS) / draw.uniform(0.2, 0.5)))
    reticular = draw.flag(0.25) * draw.uniform(0.3, 0.8)
    patches *= 1.0 + reticular * (lines - 1.0)
    # Its level rises towards the chest wall (meniscus).
    level = draw.uniform(0.5, 1.1) - 0.25 * tf.square(across)
    effusion = draw.flag(0.1) * inside * tf.sigmoid((down - level) * draw.uniform(10.0, 40.0))
    return tf.maximum(patches * draw.uniform(0.2, 1.0), effusion * draw.uniform(0.6, 1.0))


def _patches(draw: _Draw, region: tf.Tensor, across: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    # Smooth patches within a region, [n, side, side, 1] in 0..1.
    field = tf.add_n(
        [draw.uniform(0.0, weight) * draw.noise(cells) for cells, weight in _WEIGHTS.items()]
    )
    field += draw.uniform(-0.3, 1.6) * down
    field += draw.uniform(-0.3, 1.6) * tf.abs(across)
    one_sided = draw.flag(0.3) * draw.uniform(-4.0, 4.0)
    field += one_sided * across
    mean, deviation = _moments(field, region)
    field = (field - mean) / (deviation + 1e-3) - draw.uniform(-1.2, 1.5)
    softness = draw.uniform(0.0, 1.0)  # Squared: most edges are soft.
    return region * tf.sigmoid(field * (1.5 + 4.5 * tf.square(softness)))


def _brighten(draw: _Draw, images: tf.Tensor, opacity: tf.Tensor, tissue: tf.Tensor) -> tf.Tensor:
    # Mixes two ways: towards soft tissue, which hides what lies behind, and by addition.
    hidden = images + _HIDDEN * opacity * (tissue - images)
    added = tf.minimum(images + _ADDED * opacity * tissue, tf.maximum(images, 1.1 * tissue))
    return tf.clip_by_value(added + draw.uniform(0.0, 1.0) * (hidden - added), 0.0, 255.0)


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
    rows = tf.nn.avg_pool2d(masks, [width, 1], 1, "SAME")
    return tf.nn.avg_pool2d(rows, [1, width], 1, "SAME")
