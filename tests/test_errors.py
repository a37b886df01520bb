"""Errors of the surroundings of a command: one line each, and a home for every user."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from trainer import cli, errors


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "run/report.html"),
            "error: run/report.html: No space left on device; check permissions and free space",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), "error: Permission denied; check"),
        (OSError("a library's own\nwords"), "error: a library's own words"),
        (OSError(), "error: OSError"),
    ],
)
def test_errors_of_the_file_system_are_one_line(error, line, capsys):
    with pytest.raises(SystemExit) as caught, errors.exit_on_user_error():
        raise error
    assert caught.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith(line)
    assert message.count("\n") == 1


def test_no_folder_for_temporary_files_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere/to/write"])
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(SystemExit), errors.exit_on_user_error(), tempfile.TemporaryFile():
        pass
    message = capsys.readouterr().err
    assert "No usable temporary directory" in message
    assert "TMPDIR" in message


@pytest.mark.skipif(os.name != "posix", reason="/etc/passwd")
def test_a_user_without_an_entry_has_a_home(monkeypatch):
    import pwd

    def no_entry(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setenv("HOME", "/home/somebody")
    cli.ensure_home()
    assert os.environ["HOME"] == "/home/somebody"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    with pytest.raises(RuntimeError):
        Path("~/tensorflow_datasets").expanduser()
    cli.ensure_home()
    assert Path("~/tensorflow_datasets").expanduser().is_absolute()
