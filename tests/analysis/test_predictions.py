"""Predictions: their properties, and their CSV file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.builders import make_predictions, random_predictions
from trainer.analysis import predictions
from trainer.analysis.predictions import Predictions
from trainer.errors import UserError


def simulated(n: int, classes: int) -> Predictions:
    """Simulates predictions with filenames that need quoting in a CSV file."""
    rng = np.random.default_rng(0)
    return Predictions(
        filenames=np.array([f'Test/ä, "{index:03d}".png' for index in range(n)], str),
        groups=np.array([f"p{index // 2}" for index in range(n)], str),
        labels=rng.integers(0, classes, n).astype(np.int32),
        probabilities=rng.dirichlet(np.ones(classes), n),
        class_names=tuple(f"class {index}" for index in range(classes)),
        positive_class="class 1" if classes == 2 else None,
    )


@given(n=st.integers(0, 12), classes=st.integers(2, 5))
def test_a_file_that_was_written_is_read_unchanged(
    tmp_path_factory,
    n,
    classes,
):
    path = tmp_path_factory.mktemp("predictions") / "test.csv"
    written = simulated(n, classes)
    predictions.write(path, written)
    result = predictions.read(path, written.positive_class)
    assert result.class_names == written.class_names
    assert result.positive_class == written.positive_class
    assert list(result.filenames) == list(written.filenames)
    assert list(result.groups) == list(written.groups)
    assert list(result.labels) == list(written.labels)
    # The file holds eight decimals.
    np.testing.assert_allclose(result.probabilities, written.probabilities, atol=1e-8)
    # An empty file, too, has a column for each class.
    assert result.probabilities.shape == (n, classes)


def test_folds_are_joined_in_the_order_of_filenames():
    whole = simulated(10, 2)
    folds = [whole.take(np.arange(10) % 3 == fold) for fold in (2, 0, 1)]
    result = predictions.concatenate(folds)
    assert list(result.filenames) == sorted(whole.filenames)
    np.testing.assert_array_equal(result.probabilities, whole.probabilities)
    assert result.positive_class == whole.positive_class


def test_two_classes_have_a_positive_one():
    two = make_predictions(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]))
    assert two.positive_index == 1
    assert two.positive.tolist() == [False, True, True]
    assert two.positive_probabilities.tolist() == [0.1, 0.2, 0.7]
    assert two.predicted.tolist() == [0, 0, 1]
    assert two.correct.tolist() == [True, False, True]
    assert two.confidence.tolist() == [0.9, 0.8, 0.7]
    assert random_predictions(0, 9, classes=3).positive_index is None


@pytest.mark.parametrize(
    "text",
    ["", "filename,group\n", "filename,group,label,probability_a\nx,y,b,0.5\n"],
)
def test_another_file_is_rejected_with_one_line(tmp_path, text):
    (tmp_path / "test.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"test\.csv"):
        predictions.read(tmp_path / "test.csv", None)


def test_a_missing_file_is_rejected_with_the_next_step(tmp_path):
    with pytest.raises(UserError, match=r"trainer\.evaluate"):
        predictions.read(tmp_path / "none.csv", None)
