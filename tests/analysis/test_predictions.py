"""Predictions as they are written and read again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.analysis import predictions
from trainer.analysis.predictions import Predictions
from trainer.errors import UserError


def some(n: int, classes: int, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    filenames, groups = (
        [f'Test/ä, "{i:03d}".png' for i in range(n)],
        [f"p{i // 2}" for i in range(n)],
    )
    return Predictions(
        np.array(filenames, str),
        np.array(groups, str),
        rng.integers(0, classes, n).astype(np.int32),
        rng.dirichlet(np.ones(classes), n),
        tuple(f"class {i}" for i in range(classes)),
    )


@given(n=st.integers(0, 12), classes=st.integers(2, 5))
def test_what_is_read_is_what_was_written(tmp_path_factory, n, classes):
    path = tmp_path_factory.mktemp("predictions") / "test.csv"
    written = some(n, classes)
    predictions.write(path, written)
    found = predictions.read(path)
    assert found.class_names == written.class_names and list(found.filenames) == list(
        written.filenames
    )
    assert list(found.groups) == list(written.groups) and list(found.labels) == list(written.labels)
    np.testing.assert_allclose(found.probabilities, written.probabilities, atol=1e-8)
    assert found.probabilities.shape == (n, classes)


def test_parts_of_a_cross_validation_become_one_in_the_order_of_their_names():
    whole = some(10, 2)
    parts = [whole.take(np.arange(10) % 3 == fold) for fold in (2, 0, 1)]
    found = predictions.concatenate(parts)
    assert list(found.filenames) == sorted(whole.filenames)
    np.testing.assert_array_equal(found.probabilities, whole.probabilities)


@pytest.mark.parametrize(
    "text", ["", "filename,group\n", "filename,group,label,probability_a\nx,y,b,0.5\n"]
)
def test_another_file_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "test.csv").write_text(text)
    with pytest.raises(UserError, match=r"test\.csv"):
        predictions.read(tmp_path / "test.csv")


def test_a_file_that_is_not_there_is_refused_with_the_next_step(tmp_path):
    with pytest.raises(UserError, match=r"trainer\.evaluate"):
        predictions.read(tmp_path / "none.csv")
