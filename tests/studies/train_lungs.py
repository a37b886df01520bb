"""Trains the lung segmenter, trainer/data/lungs.onnx, and measures it on films of other patients.

    python -m tests.studies.train_lungs --films=../shared/data/lungs/lungs.csv

Each of the five models of the cross-validation is measured on the patients held out from it; the
last model is trained on all films, with the same settings. Each training runs in a process of its
own with one thread, so that one seed gives one file on any number of cores.
"""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

from tests.studies import lung_films, parse_arguments
from tests.studies.lung_films import Films
from trainer.data import lungs
from trainer.data.lungs import SIDE

FOLDS = 5
PHANTOMS = 400
FILTERS = (16, 32, 48, 64)  # Of each scale, from half the input's resolution on.
BATCH = 16
PHANTOMS_A_BATCH = 4
LEARNING_RATE = 2e-3
WARMUP_STEPS = 100
PERCENTILES = (5, 10, 50, 95)


def build() -> keras.Model:
    """Builds a U-Net (Ronneberger 2015, arXiv:1505.04597) at half the input's resolution.

    Returns:
      A model from [n, SIDE, SIDE, 1] float32 in 0..255 to logits [n, SIDE, SIDE, 2], one map a
      lung, left and right as seen on the picture.
    """

    def convolve(x: Any, filters: int, kernel: int = 3, stride: int = 1) -> Any:
        x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))

    image = keras.Input((SIDE, SIDE, 1), name="image")
    x = layers.LayerNormalization(axis=[1, 2, 3], center=False, scale=False, epsilon=64.0)(image)
    x = convolve(convolve(x, FILTERS[0], 5, 2), FILTERS[0])
    scales = [x]
    for filters in FILTERS[1:]:
        x = layers.MaxPooling2D()(x)
        x = convolve(convolve(x, filters), filters)
        scales.append(x)
    for filters, detail in zip(FILTERS[-2::-1], scales[-2::-1], strict=True):
        x = layers.UpSampling2D(interpolation="bilinear")(x)
        x = layers.Concatenate()([x, detail])
        x = convolve(convolve(x, filters), filters)
    logits = layers.Conv2D(2, 1)(x)
    return keras.Model(image, layers.UpSampling2D(interpolation="bilinear")(logits))


def loss(
    logits: tf.Tensor, targets: tf.Tensor, outlined: tf.Tensor, negative: tf.Tensor
) -> tf.Tensor:
    """Computes the mean loss of a batch.

    Of outlines: cross-entropy + half of the Dice loss. Of boxes, as BoxInst (Tian 2021,
    arXiv:2012.02310): nothing outside the box, and the mask's shadow on each axis is the box's.

    Args:
      logits: [n, SIDE, SIDE, 2].
      targets: [n, SIDE, SIDE, 2] in 0..1.
      outlined: [n] bool.
      negative: [n] bool; shows no chest, so the empty target is known.
    """

    def dice(predicted: tf.Tensor, target: tf.Tensor, axes: list[int]) -> tf.Tensor:
        overlap = 2.0 * tf.reduce_sum(predicted * target, axes) + 1.0
        return tf.reduce_mean(
            1.0 - overlap / (tf.reduce_sum(predicted + target, axes) + 1.0), axis=-1
        )  # [n]

    predicted = tf.sigmoid(logits)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    of_outlines = tf.reduce_mean(entropy, [1, 2, 3]) + 0.5 * dice(predicted, targets, [1, 2])
    outside = tf.reduce_mean(tf.where(targets < 0.5, entropy, 0.0), [1, 2, 3])
    shadows = [
        dice(tf.reduce_max(predicted, axis), tf.reduce_max(targets, axis), [1]) for axis in (1, 2)
    ]
    of_boxes = 0.5 * outside + 0.25 * tf.add_n(shadows)
    return tf.reduce_mean(tf.where(outlined | negative, of_outlines, of_boxes))


def train(films: Films, phantoms: Films, epochs: int, seed: int) -> keras.Model:
    """Trains a segmenter on films and phantoms.

    Args:
      films: films with outlines are drawn twice as often as those with boxes.
      phantoms: some in every batch.
      epochs: passes over the films.
      seed: of weights, order and views.
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    model = build()
    steps = epochs * len(films) // (BATCH - PHANTOMS_A_BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        float(steps - WARMUP_STEPS),
        alpha=0.01,
        warmup_target=LEARNING_RATE,
        warmup_steps=float(WARMUP_STEPS),
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-3, clipnorm=1.0)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(
        images: tf.Tensor, targets: tf.Tensor, outlined: tf.Tensor, number: tf.Tensor
    ) -> tf.Tensor:
        view_seed = tf.stack([tf.constant(seed, tf.int64), number])
        views, view_targets, negative = lung_films.draw_views(images, targets, outlined, view_seed)
        with tf.GradientTape() as tape:
            value = loss(model(views, training=True), view_targets, outlined, negative)
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return value

    rng = np.random.default_rng(seed)
    shares = np.where(films.outlined, 2.0, 1.0)
    shares /= shares.sum()
    average = 1.0
    bar = tqdm(range(steps), f"training {seed}", unit="step", position=seed)
    for number in bar:
        real = films.take(rng.choice(len(films), BATCH - PHANTOMS_A_BATCH, False, shares))
        drawn = phantoms.take(rng.choice(len(phantoms), PHANTOMS_A_BATCH, False))
        images, targets, outlined = (
            np.concatenate([getattr(real, name), getattr(drawn, name)])
            for name in ("images", "targets", "outlined")
        )
        value = step(images, targets, outlined, tf.constant(number, tf.int64))
        average += 0.02 * (float(value) - average)
        bar.set_postfix(loss=f"{average:.4f}", refresh=False)
    return model


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Predicts the probability of each lung, [n, SIDE, SIDE, 2] float32."""
    forward = tf.function(lambda batch: tf.sigmoid(model(batch, training=False)))
    batches = [images[i : i + 32].astype(np.float32) for i in range(0, len(images), 32)]
    return np.concatenate([forward(batch) for batch in batches])


def measure(films: Films, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Compares predictions with people's marks.

    Args:
      films: the films.
      probabilities: [n, SIDE, SIDE, 2].

    Returns:
      box_iou: of the box around both lungs, [n]. lung_iou: of the box of each lung, [2 n]. dice: of
      both lungs together, of outlined films. visible: share of the marked lung that
      `lungs.without_lungs` leaves, of outlined films.
    """
    fields = lungs.from_probabilities(probabilities, SIDE)
    rows: dict[str, list[float]] = {"box_iou": [], "lung_iou": [], "dice": [], "visible": []}
    for index in range(len(films)):
        boxes = fields.boxes[index]
        rows["box_iou"].append(_iou(_hull(boxes), _hull(films.boxes[index])))
        rows["lung_iou"] += [_iou(boxes[lung], films.boxes[index, lung]) for lung in (0, 1)]
        if films.outlined[index]:
            truth = films.targets[index].max(axis=-1) > 127
            mask = fields.masks[index]
            rows["dice"].append(2 * (truth & mask).sum() / (truth.sum() + mask.sum()))
            rows["visible"].append((truth & ~lungs.widen(mask)).sum() / truth.sum())
    return {name: np.array(values) for name, values in rows.items()}


def train_all(films: Films, phantoms: Films, epochs: int) -> tuple[keras.Model, np.ndarray]:
    """Trains a model on all films and one without each fold of patients.

    Returns:
      (the model, probabilities [n, SIDE, SIDE, 2]: of each film by a model that did not see its
      patient).
    """
    splitter = GroupKFold(FOLDS, shuffle=True, random_state=0)
    folds = list(splitter.split(films.images, None, films.patients))
    fitted = [*(indices for indices, _ in folds), np.arange(len(films))]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=spawn, initializer=_use_one_thread) as pool:
        jobs = [
            pool.submit(_train_weights, films.take(indices), phantoms, epochs, seed)
            for seed, indices in enumerate(fitted)
        ]
        models = [_with_weights(job.result()) for job in jobs]
    probabilities = np.zeros(films.targets.shape, np.float32)
    for model, (_, held_out) in zip(models[:-1], folds, strict=True):
        probabilities[held_out] = predict(model, films.images[held_out])
    return models[-1], probabilities


def summarize(measured: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Computes percentiles of each measure: name → p5, p10, p50, p95 and n."""
    return {
        name: {f"p{share}": round(float(np.percentile(values, share)), 4) for share in PERCENTILES}
        | {"n": len(values)}
        for name, values in measured.items()
    }


def export(model: keras.Model, path: Path, facts: dict[str, Any]) -> None:
    """Writes the segmenter as ONNX, with the facts as a property `facts`."""
    import onnx  # Imported lazily: slow.
    import tf2onnx

    signature = [tf.TensorSpec([None, SIDE, SIDE, 1], tf.float32, name="image")]
    forward = tf.function(lambda image: {"lungs": tf.sigmoid(model(image, training=False))})
    converted, _ = tf2onnx.convert.from_function(
        tf.function(forward, input_signature=signature), input_signature=signature, opset=18
    )
    onnx.helper.set_model_props(converted, {"facts": json.dumps(facts)})
    partial = path.with_suffix(".part")
    partial.write_bytes(converted.SerializeToString())
    partial.replace(path)


def main() -> None:
    """Cross-validates, then trains on everything and writes the segmenter."""
    arguments = parse_arguments(
        __doc__,
        films="../shared/data/lungs/lungs.csv",
        output="trainer/data/lungs.onnx",
        epochs=70,
    )
    films = lung_films.read_films(Path(arguments.films))
    phantoms = lung_films.draw_phantoms(PHANTOMS, seed=11)
    model, probabilities = train_all(films, phantoms, arguments.epochs)
    held_out = summarize(measure(films, probabilities))
    print(f"all folds: {held_out}")
    unseen = lung_films.draw_phantoms(100, seed=12)
    drawn = summarize(measure(unseen, predict(model, unseen.images)))
    print(f"unseen phantoms: {drawn}")
    facts = {"version": lungs.VERSION, "held_out": held_out, "phantoms": drawn}
    export(model, Path(arguments.output), facts)


def _use_one_thread() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _train_weights(films: Films, phantoms: Films, epochs: int, seed: int) -> list[np.ndarray]:
    return train(films, phantoms, epochs, seed).get_weights()


def _with_weights(weights: list[np.ndarray]) -> keras.Model:
    model = build()
    model.set_weights(weights)
    return model


def _hull(boxes: np.ndarray) -> np.ndarray:
    # The box around both lungs, [4].
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    # Intersection over union of two boxes.
    overlap = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    intersection = np.prod(np.maximum(overlap, 0.0))
    areas = np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2])
    return float(intersection / (areas - intersection))


if __name__ == "__main__":
    main()
