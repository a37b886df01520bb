"""Tests of the packaging: imports are declared, dependencies pinned, no local paths."""

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
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN_PACKAGES = {"trainer", "tests", "demo"}


def pins() -> list[re.Match]:
    """Returns the lines of the lock, each as a match of PIN."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    matches = [PIN.fullmatch(line) for line in lines]
    malformed = [line for line, match in zip(lines, matches, strict=True) if not match]
    assert not malformed, f"not of the form name==version ; marker: {malformed}"
    return matches


def declared(*extras: str) -> dict[str, Requirement]:
    """Returns the requirements of pyproject.toml and of some extras, by canonical name."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    requirements = {}
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:  # An extra may include other extras.
            requirements |= declared(*requirement.extras)
        else:
            requirements[canonicalize_name(requirement.name)] = requirement
    return requirements


def imported(folder: str) -> dict[str, Path]:
    """Returns the top-level modules that a folder imports, each with one importer."""
    sources = {}
    for source in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    sources[alias.name.partition(".")[0]] = source
            elif isinstance(node, ast.ImportFrom) and not node.level:  # 0: an absolute import
                sources[node.module.partition(".")[0]] = source
    return sources


def tracked() -> list[str]:
    """Returns the files under version control, relative to the root."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("this is not a git checkout")
    return [name for name in listing.stdout.split("\0") if name]


def test_every_pin_is_a_name_and_a_version():
    for pin in pins():
        if pin["marker"]:
            Marker(pin["marker"])  # raises if it is malformed


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_declared_dependency_is_pinned_once_within_its_bounds(python, platform):
    system = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[platform]
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": platform,
        "platform_system": system,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    selected = [
        pin for pin in pins() if not pin["marker"] or Marker(pin["marker"]).evaluate(machine)
    ]
    # Two pins of one package would leave fewer versions than pins.
    versions = {canonicalize_name(pin["name"]): pin["version"] for pin in selected}
    assert len(versions) == len(selected)
    for name, requirement in declared("dev").items():
        version = versions.get(name, "0")  # 0 is below every bound
        assert requirement.specifier.contains(version), (
            f"{requirement} is pinned at {version}: run make lock"
        )


def test_lock_has_no_gpu_libraries_and_no_second_framework():
    # torch would bring its own CUDA libraries, several gigabytes.
    names = {canonicalize_name(pin["name"]) for pin in pins()}
    assert not [name for name in names if name == "torch" or name.startswith("nvidia")]


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("trainer", ("beam", "litert")),
        ("demo", ("demo",)),
        ("datasets", ()),
        ("tests", ("dev", "bench")),
    ],
)
def test_imported_modules_are_declared(folder, extras):
    owners = metadata.packages_distributions()
    requirements = declared(*extras)
    for module, source in imported(folder).items():
        if module in OWN_PACKAGES or module in sys.stdlib_module_names:
            continue
        # A package that is not installed, as of an extra, has no owner here: its name stands in.
        names = {canonicalize_name(name) for name in owners.get(module, [module])}
        assert names & requirements.keys(), (
            f"{source.relative_to(ROOT)} imports {module}, which pyproject.toml does not declare"
        )


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_train_runs_the_documented_command():
    # This test may itself run under make, whose variables would change the plan.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    plan = subprocess.run(
        ["make", "-n", "train", "ARGS=--seed=3"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert plan.stdout.splitlines()[-1] == ".venv/bin/python -m trainer.main --epochs=13 --seed=3"


@pytest.mark.parametrize("folder", ["trainer", "demo", "datasets", "tests"])
def test_text_files_have_an_encoding(folder):
    # Ruff's PLW1514 sees `open`, and methods of a path only where it can infer the type.
    positions = {"read_text": 0, "write_text": 1}
    missing = []
    for source in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            names = {keyword.arg for keyword in node.keywords}
            position = positions.get(node.func.attr)
            if position is not None and "encoding" not in names and len(node.args) <= position:
                missing.append(f"{source.relative_to(ROOT)}:{node.lineno}")
    assert not missing, f"give encoding='utf-8': {missing}"


def test_no_tracked_file_contains_the_path_of_this_checkout():
    if len(ROOT.parts) < 3:
        pytest.skip("the checkout is at the root of the file system: no parent folder to look for")
    # The lookbehind leaves out the tail of a URL.
    parent = re.compile(rb"(?<![\w.~})-])" + re.escape(str(ROOT.parent).encode()) + rb"[/\\]")
    matches = []
    for name in tracked():
        path = ROOT / name
        if path.is_file() and parent.search(path.read_bytes()):
            matches.append(name)
    assert not matches, f"these files contain {ROOT.parent}, a folder of this machine: {matches}"
