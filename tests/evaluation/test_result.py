"""Tests of what the screen shows of a finished run."""

import pytest

from trainer.evaluation.result import Result
from trainer.workdir import Workdir


@pytest.mark.parametrize("shared", [0, 3])
def test_patients_in_both_splits_are_warned_of_on_the_screen(tmp_path, shared):
    near_duplicates = {"test_images_copied_from_train": 0, "groups_in_both": shared}
    metrics = {"dataset": {"synthetic": False}, "near_duplicates": near_duplicates}
    text = str(Result(Workdir(tmp_path), metrics))
    assert ("WARNING: 3 patients have images in train and test" in text) == bool(shared)
