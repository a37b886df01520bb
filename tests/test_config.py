"""Settings: limits are checked, recipes fill what is open, and what is written down is read back."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import config as config_lib
from trainer.config import TrainConfig
from trainer.errors import UserError


@pytest.mark.parametrize(
    "values, words",
    [
        ({"dataset": "mnist"}, "--dataset=mnist: choose one of"),
        ({"epochs": 0}, "--epochs=0: give 1 or more"),
        ({"learning_rate": 0.0}, "more than 0"),
        ({"validation_fraction": 0.7}, "0.5 or less"),
        ({"zoom": -0.1}, "0.0 or more"),
        ({"prepared_side": 77}, "choose one of 500, 256"),
        ({"learning_rate": float("nan")}, "more than 0"),
        ({"dropout": float("nan")}, "0.0 or more"),
    ],
)
def test_values_outside_the_limits_are_refused_by_flag_name(values, words):
    with pytest.raises(UserError) as caught:
        TrainConfig(**values)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@given(st.sampled_from(config_lib.MODELS), st.one_of(st.none(), st.floats(1e-6, 1.0)))
def test_recipes_fill_only_what_was_left_open(model, rate):
    found = config_lib.resolved(TrainConfig(model=model, learning_rate=rate))
    assert all(getattr(found, name) is not None for name in config_lib.RECIPES[model])
    assert found.learning_rate == (
        config_lib.RECIPES[model]["learning_rate"] if rate is None else rate
    )
    assert config_lib.resolved(found) == found


@given(
    st.builds(
        TrainConfig,
        epochs=st.integers(1, 99),
        model=st.sampled_from(config_lib.MODELS),
        zoom=st.floats(0, 0.9),
    )
)
def test_a_configuration_survives_being_written_down(config):
    assert config_lib.from_dict(config_lib.to_dict(config)) == config
    assert config_lib.differences(config, config) == []


def test_differences_name_what_decides_the_result_and_not_the_places():
    first = TrainConfig(workdir="a", logical_devices=2)
    assert (
        config_lib.differences(first, dataclasses.replace(first, workdir="b", logical_devices=0))
        == []
    )
    assert config_lib.differences(first, dataclasses.replace(first, epochs=5)) == ["epochs: 13 → 5"]


def test_an_unknown_setting_is_answered_with_the_nearest_one():
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        config_lib.from_dict({"epoch": 3})


def test_every_setting_has_a_help_text():
    for field in dataclasses.fields(TrainConfig):
        assert len(field.metadata["help"]) > 15, field.name


@pytest.mark.parametrize(
    "values, words",
    [
        ({"folds": 1}, "2 or more"),
        ({"folds": 3, "seeds": 2}, "one of them"),
        ({"folds": 3, "patience": 2}, "--patience"),
        ({"strategy": "parameter_server"}, "use --strategy=multi_worker"),
        ({"strategy": "multi_worker"}, "needs --workdir"),
        ({"fold": 0}, "--folds too"),
        ({"folds": 3, "fold": 3}, "a fold below it"),
        ({"ensemble": True}, "needs members"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused(values, words):
    with pytest.raises(UserError, match=words):
        TrainConfig(**values)
