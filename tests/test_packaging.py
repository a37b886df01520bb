"""What the checkout promises to whoever installs it: every import declared, every dependency pinned, nothing of one machine."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+]+)(?: ; (?P<marker>.+))?"
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"trainer", "tests", "demo"}


def pins() -> list[re.Match]:
    """The lines of the lock, each as a match of PIN."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    wrong = [line for line in lines if not PIN.fullmatch(line)]
    assert not wrong, f"not of the form name==version ; marker: {wrong}"
    return [PIN.fullmatch(line) for line in lines]


def declared(*extras: str) -> dict[str, Requirement]:
    """The requirements of pyproject.toml and of the extras named, by canonical name."""
    found = [
        *PROJECT["dependencies"],
        *(line for extra in extras for line in PROJECT["optional-dependencies"][extra]),
    ]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in found}


def imported(folder: str) -> dict[str, Path]:
    """The top-level modules that the sources of a folder import, each with one file that does."""
    found = {}
    for source in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0]: source for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found[node.module.partition(".")[0]] = source
    return found


def tracked() -> list[str]:
    """The files git knows, from the root."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("this is not a git checkout")
    return [name for name in listing.stdout.split("\0") if name]


def test_every_pin_is_a_name_and_a_version():
    for pin in pins():
        if pin["marker"]:
            Marker(pin["marker"])


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_declared_dependency_is_pinned_once_within_its_bounds(python, platform):
    system = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[platform]
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": platform,
        "platform_system": system,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    held = [pin for pin in pins() if not pin["marker"] or Marker(pin["marker"]).evaluate(machine)]
    versions = {canonicalize_name(pin["name"]): pin["version"] for pin in held}
    assert len(versions) == len(held)
    for name, requirement in declared("dev").items():
        held_at = versions.get(name, "0")
        assert requirement.specifier.contains(held_at), (
            f"{requirement} is pinned at {held_at}: run make lock"
        )


def test_the_lock_brings_no_gpu_libraries_and_no_second_framework():
    names = {canonicalize_name(pin["name"]) for pin in pins()}
    assert not [name for name in names if name == "torch" or name.startswith("nvidia")]


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("trainer", ("litert",)), ("demo", ()), ("datasets", ()), ("tests", ("dev", "bench"))],
)
def test_every_module_imported_is_declared(folder, extras):
    owners = metadata.packages_distributions()
    known = declared(*extras)
    for module, source in imported(folder).items():
        if module in OURS or module in sys.stdlib_module_names:
            continue
        names = {
            canonicalize_name(name) for name in owners.get(module, [module])
        }  # An extra need not be installed.
        assert names & known.keys(), (
            f"{source.relative_to(ROOT)} imports {module}, which pyproject.toml does not declare"
        )


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_train_runs_the_command_the_readers_are_told():
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # This may run under make.
    plan = subprocess.run(
        ["make", "-n", "train", "ARGS=--seed=3"],
        cwd=ROOT,
        env=outside,
        capture_output=True,
        text=True,
        check=True,
    )
    assert plan.stdout.splitlines()[-1] == ".venv/bin/python -m trainer.main --epochs=13 --seed=3"


def test_no_tracked_file_names_the_place_of_this_checkout():
    if len(ROOT.parts) < 3:
        pytest.skip(
            "the checkout lies at the root of the file system: its place has no name of its own"
        )
    place = re.compile(
        rb"(?<![\w.~})-])" + re.escape(str(ROOT.parent).encode()) + rb"[/\\]"
    )  # Not the tail of a URL.
    wrong = [
        name
        for name in tracked()
        if (ROOT / name).is_file() and place.search((ROOT / name).read_bytes())
    ]
    assert not wrong, f"these files name {ROOT.parent}, a folder of this machine: {wrong}"
