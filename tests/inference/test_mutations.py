"""Random trees and tables through the commands, see `tests.studies.mutations`."""

import pytest

from tests.conftest import run_command


@pytest.mark.parametrize("count", [30, pytest.param(500, marks=pytest.mark.slow)])
def test_commands_end_without_a_traceback_and_with_all_rows(workdir, count):
    ended = run_command(
        *("-m", "tests.studies.mutations", f"--count={count}", f"--workdir={workdir}"),
        timeout=600,
    )
    assert f"{2 * count} commands, 0 wrong" in ended.stdout, ended.stdout
    assert ended.returncode == 0
