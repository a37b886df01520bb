"""Turns the fields of a configuration into absl flags, and the parsed flags into a configuration."""

import dataclasses
import types
import typing

from absl import flags

from trainer import config as config_lib


def define(
    defaults: config_lib.TrainConfig | None = None, values: flags.FlagValues = flags.FLAGS
) -> None:
    """Declares one absl flag a setting of `TrainConfig`. Limits are checked when the configuration is made."""
    defaults = defaults or config_lib.TrainConfig()
    kinds = typing.get_type_hints(config_lib.TrainConfig)
    for field in dataclasses.fields(config_lib.TrainConfig):
        _definer(kinds[field.name], field)(
            field.name, getattr(defaults, field.name), field.metadata["help"], flag_values=values
        )


def parsed(values: flags.FlagValues = flags.FLAGS) -> config_lib.TrainConfig:
    """The configuration the command line asks for.

    Raises:
      UserError: a value is outside its limits.
    """
    names = [field.name for field in dataclasses.fields(config_lib.TrainConfig)]
    return config_lib.TrainConfig(**{name: values[name].value for name in names})


def _definer(kind: object, field: dataclasses.Field):
    if isinstance(kind, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if (
        "choices" in field.metadata and kind is str
    ):  # absl's enums are of strings; other choices are checked with the limits.
        return lambda name, default, help, **more: flags.DEFINE_enum(
            name, default, list(field.metadata["choices"]), help, **more
        )
    return {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }[kind]
