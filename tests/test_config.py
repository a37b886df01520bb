"""Tests of the settings: ranges, combinations, flags and config.json."""

import dataclasses
import itertools

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from trainer import config as config_lib
from trainer import config_flags
from trainer.config import TrainConfig
from trainer.errors import UserError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "mnist"}, "--dataset=mnist: choose one of"),
        ({"epochs": 0}, "--epochs=0: give 1 or more"),
        ({"learning_rate": 0.0}, "more than 0"),  # an open bound
        ({"validation_fraction": 0.7}, "0 to 0.5"),
        ({"zoom": -0.1}, "0 to 0.9"),
        ({"prepared_side": 77}, "choose one of 500, 256"),
        # NaN compares false with everything, so it could slip through.
        ({"learning_rate": float("nan")}, "more than 0"),
        ({"dropout": float("nan")}, "0 to 0.95"),
    ],
)
def test_value_out_of_range_is_refused_with_its_flag(values, message):
    with pytest.raises(UserError) as caught:
        TrainConfig(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.builds(
        TrainConfig,
        epochs=st.integers(1, 99),
        model=st.sampled_from(["cnn", "seed_cnn", "compact"]),
        zoom=st.floats(0, 0.9),
    )
)
def test_config_survives_a_round_trip_through_a_dict(config):
    assert config_lib.from_dict(dataclasses.asdict(config)) == config
    assert config_lib.differences(config, config) == []


def test_differences_leave_out_folders_and_devices():
    first = TrainConfig(workdir="a", logical_devices=2)
    # The same run on another machine: the workdir may be resumed there.
    elsewhere = dataclasses.replace(first, workdir="b", logical_devices=0)
    longer = dataclasses.replace(first, epochs=5)
    assert config_lib.differences(first, elsewhere) == []
    assert config_lib.differences(first, longer) == ["epochs: 13 → 5"]


def test_unknown_setting_is_answered_with_the_nearest_one():
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        config_lib.from_dict({"epoch": 3})


def test_every_setting_has_a_help_text_and_groups_are_contiguous():
    fields = dataclasses.fields(TrainConfig)
    for field in fields:
        assert len(field.metadata["help"]) > 15, field.name
    groups = [group for group, _ in itertools.groupby(field.metadata["group"] for field in fields)]
    # --help prints a heading whenever the group changes.
    assert len(groups) == len(set(groups)) >= 8


def test_data_sets_are_those_with_a_builder_in_the_checkout():
    names = config_lib.dataset_names()
    # Each set is a folder of its own name.
    folders = {path.parent.name for path in (ROOT / "datasets").glob("*/*_dataset_builder.py")}
    assert set(names) == folders >= {"covid_xray", "phantom"}
    for name in names:
        assert TrainConfig(dataset=name).dataset == name


def test_flags_without_a_value_give_the_defaults():
    values = flags.FlagValues()  # not the global flags, which other tests use
    config_flags.define_flags(values=values)
    values(["command"])
    assert config_flags.parse_flags(values) == TrainConfig()


def test_a_command_may_declare_some_of_the_settings():
    values = flags.FlagValues()
    config_flags.define_flags("seed", "image_size", values=values)
    values(["command", "--seed=3", "--image_size=96"])
    assert set(values) == {"seed", "image_size"}
    assert config_flags.parse_flags(values) == TrainConfig(seed=3, image_size=96)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"folds": 1}, "2 or more"),
        ({"folds": 3, "seeds": 2}, "one of them"),
        ({"folds": 3, "patience": 2}, "--patience"),
        ({"strategy": "parameter_server"}, "use --strategy=multi_worker"),
        ({"strategy": "multi_worker"}, "needs --workdir"),
        ({"strategy": "multi_worker", "workdir": "run", "folds": 3}, "trains one run"),
        ({"strategy": "multi_worker", "workdir": "run", "rounds": 2}, "--teacher before it"),
        ({"fold": 0}, "--folds too"),
        ({"folds": 3, "fold": 3}, "a fold below it"),  # folds count from 0
        ({"ensemble": True}, "needs members"),
        ({"extend": True}, "give its --workdir"),
        ({"data_service": "host:5050"}, "give grpc://HOST:PORT"),
        ({"data_service": "grpc://host:5050", "cache": "disk"}, "leave --cache=disk out"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(**values)
