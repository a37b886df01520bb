"""The audit of a data set before any training."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.analysis import controls
from trainer.config import TrainConfig
from trainer.data import prepared
from trainer.errors import UserError
from trainer.evaluation import audit
from trainer.workdir import read_json

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def new_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a set in datasets/ whose classes are healthy and ill."""
    source = ROOT / "datasets" / "covid_xray" / "covid_xray_dataset_builder.py"
    text = source.read_text("utf-8")
    text = text.replace('("non_covid", "covid")', '("healthy", "ill")')
    text = text.replace('POSITIVE_CLASS = "covid"', 'POSITIVE_CLASS = "ill"')
    folder = tmp_path / "datasets" / "hospital"
    folder.mkdir(parents=True)
    (folder / "hospital_dataset_builder.py").write_text(text, "utf-8")
    # TFDS reads the files beside a builder.
    (folder / "README.md").write_text("A hospital's set.", encoding="utf-8")
    (folder / "CITATIONS.bib").write_text("", encoding="utf-8")
    shutil.copy(source.with_name("TAGS.txt"), folder)
    monkeypatch.setattr(prepared, "_FOLDER", tmp_path / "datasets")
    yield "hospital"
    # Other tests must not meet the module of a folder that is gone.
    sys.modules.pop("hospital_dataset_builder", None)


def copy_with_classes(tiny_folder: Path, folder: Path) -> None:
    """Copies the tiny set under the class names of the new one."""
    for split in ("Train", "Test"):
        shutil.copytree(tiny_folder / split / "covid", folder / split / "ill")
        shutil.copytree(tiny_folder / split / "non_covid", folder / split / "healthy")


def make_config(name: str, manual_dir: Path) -> TrainConfig:
    config = TrainConfig(manual_dir=str(manual_dir))
    # The choices of --dataset come from the checkout, so the name is set without a check.
    object.__setattr__(config, "dataset", name)
    return config


def test_a_new_set_is_audited_with_its_own_classes(
    new_set: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "_TREES", 20)  # Fewer: their scores do not matter here.
    radiographs = tmp_path / "radiographs"
    copy_with_classes(tiny_folder, radiographs)
    # One damaged file is listed and does not end the audit.
    (radiographs / "Train" / "ill" / "damaged.png").write_bytes(b"no picture")
    output = tmp_path / "audit"
    message = audit.audit_set(make_config(new_set, radiographs), str(output))
    facts = read_json(output / "audit.json")
    counts = facts["inventory"]["classes"]
    # In label order, as the builder declares it.
    assert list(counts["train"]) == ["healthy", "ill"]
    assert counts["train"]["ill"]["images"] == 14
    assert counts["test"]["healthy"]["images"] == 8
    assert "damaged.png" in facts["inventory"]["unreadable"][0]
    assert {control["name"] for control in facts["controls"]} >= {"header", "border"}
    assert (output / "controls.csv").exists()
    assert f"written to {output}" in message


def test_a_folder_with_other_files_is_refused(tmp_path: Path, tiny_folder: Path) -> None:
    output = tmp_path / "mine"
    output.mkdir()
    (output / "thesis.txt").write_text("years", encoding="utf-8")
    with pytest.raises(UserError, match="holds other files"):
        audit.audit_set(make_config("covid_xray", tiny_folder), str(output))
    # Nothing was written beside it.
    assert [path.name for path in output.iterdir()] == ["thesis.txt"]


def test_audits_without_a_folder_are_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # The first free number, even after a gap.
    (tmp_path / "audits" / "001").mkdir(parents=True)
    (tmp_path / "audits" / "003").mkdir()
    assert audit._output_folder(None) == Path("audits/002")
    assert audit._output_folder(None) == Path("audits/004")
