"""External sets in any layout: classes by name, findings that are not labelled, and refusals."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.data.sets import open_set
from trainer.analysis import duplicate_search
from trainer.config import TrainConfig
from trainer.data import phantom
from trainer.data.prepared import PreparedDataset
from trainer.errors import UserError
from trainer.evaluation.external_set import open_external

NIH = ROOT / "datasets" / "nih_chest_xray14" / "dummy_data"


@pytest.fixture(scope="module")
def covid(tiny_data_dir: Path) -> PreparedDataset:
    """A set of the classes non_covid and covid."""
    return open_set(tiny_data_dir)


@pytest.fixture(scope="module")
def nih(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """A set of fourteen findings."""
    folder = tmp_path_factory.mktemp("nih")
    return open_set(folder, "nih_chest_xray14", NIH, prepared_side=64)


def write_images(folder: Path, names: list[str]) -> None:
    """Writes uniform noise, which no training image is like."""
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (60, 60)).astype(np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)


def write_table(folder: Path, rows: list[dict]) -> Path:
    """Writes an image for each row, and the table."""
    write_images(folder, [row["file"] for row in rows])
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.mark.parametrize("given", ["other", "other/COVID", "other/COVID/.."])
def test_one_class_needs_no_folder_for_the_other(
    covid: PreparedDataset, tmp_path: Path, given: str
):
    write_images(tmp_path / "other" / "COVID", [f"{index}.png" for index in range(4)])
    _, images, remarks = open_external(str(tmp_path / given), covid, TrainConfig())
    assert images.labels.tolist() == [covid.class_names.index("covid")] * 4
    assert any(line.startswith("no image of non_covid") for line in remarks)


def test_classes_are_matched_by_name_and_others_left_out(covid: PreparedDataset, tmp_path: Path):
    names = ("Non-COVID", "COVID", "Tuberculosis", "COVID")
    rows = [
        {"file": f"{index}.png", "diagnosis": name, "patient": f"p{index // 2}"}
        for index, name in enumerate(names)
    ]
    # Whatever the split: all of them count as one.
    rows = [row | {"split": ("train", "test")[index % 2]} for index, row in enumerate(rows)]
    name, images, remarks = open_external(
        str(write_table(tmp_path / "other", rows)), covid, TrainConfig()
    )
    assert name == "external_other"
    assert images.filenames.tolist() == [f"external/{index}.png" for index in (0, 1, 3)]
    assert images.labels.tolist() == [0, 1, 1]
    assert images.groups.tolist() == ["p0", "p0", "p1"]
    text = "\n".join(remarks)
    assert "classes left out: Tuberculosis (1 images)" in text
    assert "3 classes by column diagnosis" in text


def test_one_class_alone_is_read_from_its_folder(covid: PreparedDataset, tmp_path: Path):
    write_images(tmp_path / "other", ["covid/a.png", "covid/b.png"])
    _, images, _ = open_external(str(tmp_path / "other"), covid, TrainConfig())
    assert images.labels.tolist() == [1, 1]
    # Without patients, each image is a group of its own.
    assert images.groups.tolist() == ["external/covid/a.png", "external/covid/b.png"]


def test_a_column_may_be_named(covid: PreparedDataset, tmp_path: Path):
    rows = [{"file": f"{index}.png", "dx": ("covid", "non_covid")[index % 2]} for index in range(4)]
    folder = str(write_table(tmp_path / "other", rows))
    with pytest.raises(UserError, match="--label_columns"):
        open_external(folder, covid, TrainConfig())
    _, images, _ = open_external(folder, covid, TrainConfig(label_columns="dx"))
    assert images.labels.tolist() == [1, 0, 1, 0]


def test_findings_that_are_not_labelled_there_are_unknown(nih: PreparedDataset, tmp_path: Path):
    cells = ("1", "0", "-1", "")
    rows = [
        {"file": f"{index}.png", "pneumothorax": cells[index], "Edema": 1, "Fracture": index % 2}
        for index in range(4)
    ]
    _, images, remarks = open_external(
        str(write_table(tmp_path / "other", rows)), nih, TrainConfig()
    )
    names = list(nih.class_names)
    assert images.labels.shape == (4, 14)
    assert images.labels[:, names.index("Pneumothorax")].tolist() == [1, 0, -1, 0]
    assert (images.labels[:, names.index("Edema")] == 1).all()
    others = [index for index, name in enumerate(names) if name not in ("Pneumothorax", "Edema")]
    assert (images.labels[:, others] == -1).all()
    text = "\n".join(remarks)
    assert "findings left out: Fracture (2 images)" in text
    assert "Atelectasis, Cardiomegaly, Effusion" in text
    assert "1 labels are uncertain" in text


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [{"file": "a.png", "label": "x"}, {"file": "b.png", "label": "y"}],
            "has x, y, and the run non_covid, covid",
        ),
        (
            [{"file": "a.png", "Edema": 1, "Mass": 0}, {"file": "b.png", "Edema": 0, "Mass": 1}],
            "several findings an image .Edema, Mass., and the run .* one class an image",
        ),
    ],
)
def test_a_set_of_other_classes_is_refused_in_one_line(
    covid: PreparedDataset, tmp_path: Path, rows: list[dict], words: str
):
    folder = write_table(tmp_path / "other", rows)
    with pytest.raises(UserError, match=words) as caught:
        open_external(str(folder), covid, TrainConfig())
    assert "\n" not in str(caught.value)


def test_one_class_an_image_is_refused_for_several_findings(nih: PreparedDataset, tmp_path: Path):
    write_images(tmp_path / "other", ["Edema/a.png", "Mass/b.png"])
    with pytest.raises(
        UserError, match=r"one class an image .*several findings an image"
    ) as caught:
        open_external(str(tmp_path / "other"), nih, TrainConfig())
    assert "\n" not in str(caught.value)
    # Without a finding in common, nothing could be scored.
    renamed = dataclasses.replace(nih, class_names=("Fracture",))
    with pytest.raises(UserError, match="and the run Fracture"):
        open_external(str(NIH), renamed, TrainConfig())


def test_squares_are_those_of_the_training_set(
    covid: PreparedDataset, nih: PreparedDataset, tmp_path: Path
):
    write_images(tmp_path / "other", ["covid/a.png", "non_covid/b.png"])
    _, images, _ = open_external(str(tmp_path / "other"), covid, TrainConfig())
    assert images.images.shape == (2, 500, 500, 1)
    rows = [{"file": f"{index}.png", "Edema": index % 2, "Mass": 1} for index in range(3)]
    folder = str(write_table(tmp_path / "findings", rows))
    _, images, _ = open_external(folder, nih, TrainConfig())
    assert images.images.shape == (3, 64, 64, 1)


def test_training_images_are_searched_once_for_their_features(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = open_set(tmp_path / "data", manual_dir=tiny_folder, prepared_side=64)
    films = [phantom.draw(7, number, 0, 256).image for number in range(3)]
    (tmp_path / "other" / "covid").mkdir(parents=True)
    for number, film in enumerate([*films, films[0][20:, 10:]]):
        Image.fromarray(film).save(tmp_path / "other" / "covid" / f"{number}.png")
    counts = []
    extract = duplicate_search.extract

    def count(images, *sizes):
        extracted = extract(images, *sizes)
        counts.append(len(extracted))
        return extracted

    monkeypatch.setattr(duplicate_search, "extract", count)
    results = [open_external(str(tmp_path / "other"), data, TrainConfig()) for _ in range(2)]
    assert counts == [26, 4, 4]  # Train has 26 images.
    first, second = (images.groups.tolist() for _, images, _ in results)
    # The cropped copy belongs to its original.
    assert first == second
    assert first[0] == first[3]
    assert len(set(first)) == 3
