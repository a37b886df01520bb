"""Tests of listing images: the content decides, and what is passed over is named."""

import zipfile

import pytest

from tests.data.dicom_files import gradient as stored_gradient
from tests.data.dicom_files import make_dicom
from tests.data.pictures import encode, gradient
from trainer.config import TrainConfig
from trainer.data import any_source, image_files, mask_files
from trainer.errors import UserError


def test_images_of_any_name_are_listed_by_their_content(tmp_path):
    jpeg = encode(gradient(), "JPEG")
    images = {
        "a.jfif": jpeg,
        "b.jpe": jpeg,
        "c.JPG_": jpeg,
        "d": encode(gradient()),
        "e.txt": encode(gradient()),
        "IM0001": make_dicom(stored_gradient(255), bits=12),
        "g.img": encode(gradient(), "TIFF"),
        "h.bin": encode(gradient(), "BMP"),
        "i.x": encode(gradient(), "WEBP"),
    }
    others = {"README": b"text", "labels.csv": b"BMI,age\n1,2\n", "empty": b""}
    for name, data in (images | others).items():
        (tmp_path / name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("a.png", images["d"])
    (tmp_path / ".hidden").write_bytes(jpeg)
    listing = image_files.list_files(tmp_path)
    assert sorted(listing.images) == sorted(images)
    assert sorted(listing.others) == sorted(others)
    assert listing.archives == ["more.zip"]
    remarks = " ".join(listing.remarks())
    assert "more.zip" in remarks
    assert "README" in remarks
    assert "labels.csv" not in remarks


def test_a_folder_of_archives_says_so(tmp_path):
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive:
        archive.writestr("a.png", encode(gradient()))
    with pytest.raises(UserError, match=r"archives, to be unpacked first.*films\.zip"):
        image_files.list_images(tmp_path)


@pytest.mark.parametrize(
    ("masks", "images"),
    [
        (["covid/masks/1.png", "lung_masks/1.png"], ["covid/images/1.png", "a/1.png"]),
        (["a/Segmentation/1.png", "ManualMask/left/1.png"], ["a/1.png"]),
        (["a/1_mask.png", "a/1-mask_2.png", "2 seg.png"], ["a/1.jpg", "2.png", "b/9_mask.png"]),
        ([], ["masks/1.png", "masks/2.png"]),
        ([], ["a/unmasked one.png", "a/mask.png", "segovia/1.png"]),
    ],
)
def test_masks_are_recognized_by_folder_or_twin(masks, images):
    assert mask_files.recognize([*masks, *images]) == [True] * len(masks) + [False] * len(images)


def test_masks_and_validation_of_a_set_in_the_fixed_layout(tmp_path):
    for split in ("Train", "Test", "Val"):
        for label in ("covid", "non_covid"):
            for kind in ("images", "masks"):
                path = tmp_path / "set" / split / label / kind / "1.png"
                path.parent.mkdir(parents=True)
                path.write_bytes(encode(gradient()))
    (tmp_path / "set" / "loose.png").write_bytes(encode(gradient()))
    (tmp_path / "set" / "Extra" / "deep").mkdir(parents=True)
    (tmp_path / "set" / "Extra" / "deep" / "1.jfif").write_bytes(encode(gradient(), "JPEG"))
    from trainer.data import prepared

    source = prepared.find_source(
        TrainConfig(manual_dir=str(tmp_path), data_dir=str(tmp_path / "data"), dataset="covid_xray")
    )
    names = [entry.filename for split in source.splits.values() for entry in split]
    assert sorted(names) == sorted(
        f"{split}/{label}/images/1.png"
        for split in ("Train", "Test", "Val")
        for label in ("covid", "non_covid")
    )
    assert set(source.splits) == {"train", "validation", "test"}
    remarks = " ".join(source.remarks)
    for words in ("6 images are masks", "loose.png", "Extra/deep/1.jfif"):
        assert words in remarks
    # The reader of any layout agrees.
    other = any_source.find(tmp_path / "set", tmp_path / "data", TrainConfig())
    assert {name: len(split) for name, split in other.splits.items()} == dict.fromkeys(
        ("train", "validation", "test"), 2
    )
