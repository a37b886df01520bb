"""Turns settings into absl flags, and parsed flags into a `TrainConfig`.

config_flags.define_flags()
config = config_flags.parse_flags()
"""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

from absl import flags

from trainer.config import TrainConfig
from trainer.config_rules import describe_range

flags.disclaim_key_flags()  # The flags belong to the command that calls `define_flags`.

_DEFINE: dict[Any, Callable[..., Any]] = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


def define_flags(*names: str, values: flags.FlagValues = flags.FLAGS) -> None:
    """Declares one absl flag per setting.

    Ranges are checked by `TrainConfig`, so that every value is checked in one place.

    Args:
      names: the settings; none for all of them.
      values: where the flags are declared.
    """
    for field in dataclasses.fields(TrainConfig):
        if names and field.name not in names:
            continue
        # `int | None` is defined as `int`: absl takes None as the default of any flag.
        kinds = typing.get_args(field.type) or (field.type,)
        choices = "|".join(map(str, field.metadata.get("choices", ())))
        allowed = choices or describe_range(field)
        _DEFINE[kinds[0]](
            field.name,
            field.default,  # None: the model supplies it, or it stays open.
            (f"<{allowed}>: " if allowed else "") + field.metadata["help"],
            flag_values=values,
            module_name=field.metadata["group"],  # --help shows flags by module
        )
        flags.declare_key_flag(field.name, values)


def parse_flags(values: flags.FlagValues = flags.FLAGS) -> TrainConfig:
    """Returns the configuration given on the command line; settings without a flag have defaults.

    Raises:
      UserError: a value is out of range.
    """
    settings: dict[str, Any] = {
        field.name: values[field.name].value
        for field in dataclasses.fields(TrainConfig)
        if field.name in values
    }
    return TrainConfig(**settings)
