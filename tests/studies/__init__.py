"""Measurements that take too long for a test, each a command: python -m tests.studies.NAME."""

import argparse
from typing import Any


def parse_arguments(description: str, **options: Any) -> argparse.Namespace:
    """Parses the command line of a study.

    Args:
      description: text of --help.
      **options: name → default value; or, for an option without one, its type.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in options.items():
        if isinstance(default, type):
            parser.add_argument(f"--{name}", type=default, required=True)
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()
