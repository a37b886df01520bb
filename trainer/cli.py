"""The frame of every command: flags, --help, and errors in one line.

_WORKDIR = cli.define_workdir()

def main() -> None:
    print(evaluate.evaluate(_WORKDIR.value))

if __name__ == "__main__":
    cli.run(main)
"""

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from absl import app, flags

from trainer import errors, screen

flags.disclaim_key_flags()  # The flags defined below belong to the calling command.

_HELP_FLAGS = {"--help", "-help", "--helpshort", "-helpshort", "-?"}


def define_workdir(help: str = "The finished run.") -> flags.FlagHolder[str]:
    """Declares the required flag --workdir of a command."""
    holder = flags.DEFINE_string("workdir", None, help)
    # Not `required=True`: that message does not contain the fix.
    flags.register_validator(
        "workdir",
        bool,
        message="which run? Give --workdir=runs/…, a folder that trainer.main has finished.",
    )
    return cast("flags.FlagHolder[str]", holder)  # The validator excludes None.


def run(main: Callable[..., None], positional: bool = False) -> None:
    """Parses the flags and calls the main function of a command.

    A `UserError`, a wrong flag and an error of the file system become one line on stderr and exit
    status 1. What cannot be printed makes no command fail, see `screen`.

    Args:
      main: called with the positional arguments (strings).
      positional: whether the command takes positional arguments.
    """

    def call_main(argv: list[str]) -> None:
        arguments = argv[1:]
        if arguments and not positional:
            raise errors.UserError(
                f"'{arguments[0]}' is not a flag; settings are given as --name=value, see --help."
            )
        main(*arguments)

    screen.use_utf8()
    ensure_home()
    with screen.guard(), errors.exit_on_user_error():
        app.run(call_main, flags_parser=_parse_flags)


def ensure_home() -> None:
    """Gives a user without an entry in /etc/passwd the home / as Docker does.

    Without one libraries make a folder that is called ~.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.sep


def _parse_flags(argv: list[str]) -> list[str]:
    if _HELP_FLAGS & set(argv):
        _print_help()
        sys.exit()
    try:
        arguments = flags.FLAGS(argv)
    except flags.Error as error:
        raise errors.UserError(" ".join([*str(error).splitlines(), "(see --help)"])) from error
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        if flag.present and _is_blank(flag.value):
            # As from --manual_dir=$FOLDER with a variable that is not set.
            raise errors.UserError(
                f"--{flag.name}= has no value; give one, or leave the flag out (see --help)"
            )
    return arguments


def _is_blank(value: object) -> bool:
    # A list is blank where one of its items is.
    if isinstance(value, list):
        return not value or any(map(_is_blank, value))
    return isinstance(value, str) and not value.strip()


def _print_help() -> None:
    # Prints the command's docstring and its flags by group, in declared order.
    program = sys.argv[0]  # absl's name for the main module
    print((sys.modules["__main__"].__doc__ or program).strip())
    # A group is the module name that `config_flags` gives to a flag.
    groups = itertools.groupby(
        flags.FLAGS.get_key_flags_for_module(program),
        lambda flag: flags.FLAGS.find_module_defining_flag(flag.name),
    )
    for group, members in groups:
        title = "Flags" if group == program else group
        print(f"\n{title}:", *map(_describe, members), sep="\n")
    print("\n--helpfull lists the flags of the libraries too, as --flagfile, --verbosity.")


def _describe(flag: flags.Flag) -> str:
    prefix = "--[no]" if flag.boolean else "--"
    default = (flag.default_as_str or "").strip("'")  # absl quotes it
    suffix = f" (default: {default})" if default else ""
    return flags.text_wrap(
        f"{prefix}{flag.name}: {flag.help}{suffix}",
        indent="      ",
        firstline_indent="  ",
    )
