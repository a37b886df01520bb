"""The rules that the settings of a run must keep; `config` declares the settings.

config_rules.check(config)    # UserError: --epochs=0: give 1 or more.
"""

import dataclasses
import re
from typing import Any

from trainer.errors import UserError

_Config = Any  # A TrainConfig; its module imports this one.


def check(config: _Config) -> None:
    """Checks each setting and their combination.

    Raises:
      UserError: a value is out of range; the message names the flag and the range.
    """
    for field in dataclasses.fields(config):
        _check_range(field, getattr(config, field.name))
    for message, wrong in (_machine_errors(config) | _repetition_errors(config)).items():
        if wrong:
            raise UserError(message)


def describe_range(field: dataclasses.Field) -> str:
    """Describes the range of a setting: '1 or more', '0 to 0.5'; empty without one."""
    rules = field.metadata  # The keyword arguments of `config._setting`.
    # .10g: 0 for 0.0, and 2147483647 in full.
    if "above" in rules:
        return f"more than {rules['above']:.10g}"
    if "high" in rules:
        return f"{rules['low']:.10g} to {rules['high']:.10g}"
    return f"{rules['low']:.10g} or more" if "low" in rules else ""


def _check_range(field: dataclasses.Field, value: Any) -> None:
    rules = field.metadata
    if value is None:  # left open
        return
    if value not in rules.get("choices", (value,)):
        choices = ", ".join(map(str, rules["choices"]))
        raise UserError(f"--{field.name}={value}: choose one of {choices}.")
    # NaN fails each comparison, so it is out of every range.
    in_range = (
        ("low" not in rules or value >= rules["low"])
        and ("above" not in rules or value > rules["above"])
        and ("high" not in rules or value <= rules["high"])
    )
    if not in_range:
        raise UserError(f"--{field.name}={value}: give {describe_range(field)}.")


def _machine_errors(config: _Config) -> dict[str, bool]:
    # Message → whether the combination of settings is wrong; the first wrong one is reported.
    several_workers = config.strategy == "multi_worker"
    all_folds = config.folds > 0 and config.fold is None
    service = config.data_service or ""
    # Only the form is checked: the dispatcher may not have started yet.
    is_address = re.fullmatch(r"grpc://[^/:\s]+:\d+", service) is not None
    return {
        "--strategy=parameter_server applies updates in the order in which workers answer, so "
        "no run could be repeated or resumed exactly; use --strategy=multi_worker.": (
            config.strategy == "parameter_server"
        ),
        "--strategy=multi_worker needs --workdir, on storage that all workers share.": (
            several_workers and config.workdir is None
        ),
        "--strategy=multi_worker trains one run: give each a --seed or --fold, and each round the "
        "--teacher before it.": (
            several_workers
            and (config.seeds > 1 or all_folds or config.ensemble or config.rounds > 1)
        ),
        "--weights and --init_from: give one of them.": (
            config.init_from is not None and config.weights not in (None, "none")
        ),
        "--paint_opacities needs lungs to paint into; add --view=lungs.": (
            bool(config.paint_opacities) and config.view == "whole"
        ),
        "--swap_backgrounds needs to know the lungs; add --view=lungs.": (
            config.swap_backgrounds > 0.0 and config.view == "whole"
        ),
        "--swap_backgrounds takes images in any order; give --cache=memory or --cache=disk.": (
            config.swap_backgrounds > 0.0 and (config.cache == "none" or service != "")
        ),
        f"--data_service={service}: give grpc://HOST:PORT.": service != "" and not is_address,
        f"--data_service reads records on other machines; leave --cache={config.cache} out.": (
            service != "" and config.cache not in ("auto", "none")
        ),
    }


def _repetition_errors(config: _Config) -> dict[str, bool]:
    repeated = config.folds > 0 or config.seeds > 1
    return {
        "--extend resumes one run: give its --workdir, no --folds and no --seeds.": (
            config.extend and (config.workdir is None or repeated)
        ),
        "--folds=1: give 2 or more, or 0 for none.": config.folds == 1,
        "--folds and --seeds: give one of them.": config.folds > 0 and config.seeds > 1,
        "--patience stops by the validation loss, but with --folds the held-out part is only "
        "scored; leave --patience out.": config.folds > 0 and config.patience > 0,
        f"--fold={config.fold}: give --folds too, and a fold below it.": (
            config.fold is not None and config.fold >= config.folds
        ),
        "--ensemble needs members: give --folds or --seeds too.": config.ensemble and not repeated,
    }
