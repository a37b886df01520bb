"""Tests of a run's examples: which images a source-free model sees, and those without lungs."""

import dataclasses

import numpy as np
import pytest

from trainer.analysis.duplicates import NearDuplicates
from trainer.config import TrainConfig
from trainer.data.run import Run, open_run
from trainer.errors import UserError
from trainer.training import distribution, input_pipeline, models, run_data

NO_DUPLICATES = NearDuplicates((), False, "")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("phantoms")
    config = TrainConfig(
        dataset="phantom",
        data_dir=str(folder / "data"),
        workdir=str(folder / "run"),
        phantom_train=16,
        phantom_test=4,
        prepared_side=64,
        model="opacity",
        image_size=64,
        strategy="one_device",
    )
    return open_run(models.resolve(config), config)


def load(run: Run, **settings) -> tuple[input_pipeline.Examples, input_pipeline.Examples, list]:
    changed = dataclasses.replace(run, config=dataclasses.replace(run.config, **settings))
    workers = distribution.Workers(distribution.make_strategy(changed.config))
    return run_data.load_train(changed, "memory", NO_DUPLICATES, workers)


def test_a_source_free_model_is_trained_on_negative_images_alone(run):
    train, validation, _ = load(run)
    assert run.data.class_names[0] == "clear"
    assert set(train.labels) == {0}
    assert set(validation.labels) == {0, 1}
    # Masks of the lungs come with the images, in the same order.
    assert train.lungs.shape == train.images.shape
    assert 0.2 < (train.lungs > 127).mean() < 0.8


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_positive_images_get_the_maps_that_are_learnt(run, cache):
    workers = distribution.Workers(distribution.make_strategy(run.config))

    def find_opacities(images: np.ndarray) -> np.ndarray:
        return 255 - images

    arguments = (run, cache, NO_DUPLICATES, workers, find_opacities)
    if cache == "disk":
        with pytest.raises(UserError, match=r"^[^\n]*--cache=memory[^\n]*$"):
            run_data.load_train(*arguments)
        return
    train, _, _ = run_data.load_train(*arguments)
    positive = train.labels == run_data.positive_index(run)
    assert 0 < positive.sum() < len(train)
    np.testing.assert_array_equal(train.opacities[positive], 255 - train.images[positive])
    assert not train.opacities[~positive].any()


def test_other_models_see_every_class(run):
    train, _, _ = load(run, model="compact")
    assert set(train.labels) == {0, 1}
    unpainted, _, _ = load(run, model="compact", paint_opacities=0.0)
    assert unpainted.lungs is None


@pytest.mark.parametrize(("treatment", "left"), [("whole", 0), ("drop", 2)])
def test_images_without_lungs_are_seen_whole_or_left_out(run, monkeypatch, treatment, left):
    load_all = input_pipeline.load

    def load_without_lungs(*arguments):
        examples = load_all(*arguments)
        has_lungs = np.ones(len(examples), bool)
        has_lungs[:2] = False
        return dataclasses.replace(examples, has_lungs=has_lungs)

    monkeypatch.setattr(input_pipeline, "load", load_without_lungs)
    settings = {"model": "compact", "validation_fraction": 0.0, "on_no_lungs": treatment}
    train, _, notes = load(run, **settings)
    assert len(train) == 16 - left
    assert "no lungs were found on 2 of 16 images" in notes[0]


def test_paint_needs_a_positive_class(run):
    data = dataclasses.replace(run.data, positive_class=None)
    with pytest.raises(UserError, match="no positive class"):
        run_data.positive_index(dataclasses.replace(run, data=data))


def test_paint_needs_the_view_of_the_lungs():
    with pytest.raises(UserError, match="add --view=lungs"):
        models.resolve(TrainConfig(model="cnn", paint_opacities=0.5))
