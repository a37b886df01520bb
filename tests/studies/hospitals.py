"""Recipes judged at hospitals that no model was trained on, from two training sets.

    python -m tests.studies.hospitals --output=FOLDER [--recipes=default,robust] [--seeds=5]

The training sets are the real sample, and one with the sources exchanged: covid of the sample
beside the non_covid of external_dev, of which every fifth image is test. Each run is judged on its
own test and on external_dev and external_dev_web; those of the exchanged set with the sample's
negative test images in place of RSNA's, which it was trained on. One collection has both classes:
any finding against none. Differences to the first recipe are paired: the same images and seeds;
their intervals resample images. Maps are judged within the lungs of the 48 radiographs that
radiologists outlined. Runs stay in the folder, so that the command can be stopped and repeated.
Needs ../shared/data.
"""

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from tests.conftest import ROOT
from tests.studies import parse_arguments
from trainer.analysis import intervals, weighted
from trainer.data import radiograph, views
from trainer.inference import runtime
from trainer.workdir import read_json

DATA = ROOT.parent / "shared" / "data"
# Name → flags of trainer.main.
RECIPES = {
    "default": ("--epochs=13",),
    "robust": ("--flagfile=flags/robust.flags",),
    # Robust with one of its parts changed:
    "one_round": ("--flagfile=flags/robust.flags", "--rounds=1"),
    "plain_exposure": (
        "--flagfile=flags/robust.flags",
        *("--tone=0", "--gamma=0", "--contrast=0", "--brightness=0"),
    ),
    "plain_texture": (
        "--flagfile=flags/robust.flags",
        *("--blur=0", "--sharpen=0", "--noise=0", "--coarsen=0", "--jpeg=0"),
    ),
    "ensemble": ("--flagfile=flags/robust.flags", "--seeds=3", "--ensemble"),
    # Real labels, with the view and the augmentation of robust.
    "real_labels": (
        *("--model=compact", "--view=lungs", "--image_size=128", "--epochs=40"),
        *("--tone=1.8", "--gamma=0.6", "--contrast=0.35", "--brightness=0.08"),
        *("--blur=1.8", "--sharpen=1.8", "--noise=12", "--coarsen=0.6", "--jpeg=3"),
        *("--rotation=8", "--shear=3", "--zoom=0.18", "--shift=0.06"),
    ),
}
_LUNG = 80  # Grey level in lesions/*.png from which a pixel is lung, and from which it is lesion.
_LESION = 160
_PRIOR_SIDE = 256

Files = list[tuple[Path, bool]]  # Radiographs, and whether each is of the positive class.


def list_classes(folder: Path) -> Files:
    """Lists the radiographs of a folder with the folders covid and non_covid below it."""
    return [
        (path, path.parent.name == "covid")
        for path in sorted(folder.rglob("*"))
        if path.parent.name in ("covid", "non_covid")
    ]


def list_collection() -> Files:
    """Lists radiographs of one collection: those with a finding, and those without any."""
    rows = csv.DictReader((DATA / "lungs" / "lungs.csv").open(encoding="utf-8"))
    return [
        (DATA / row["image"], row["finding"] != "No Finding")
        for row in rows
        # The others are in the sample.
        if row["image"].startswith("lungs/") and row["finding"] not in ("todo", "Unknown")
    ]


def exchange_sources(folder: Path) -> None:
    """Writes the exchanged set into a folder."""
    sample = DATA / "covid_xray_sample" / "covid_update"
    for split in ("Train", "Test"):
        shutil.copytree(sample / split / "covid", folder / split / "covid", dirs_exist_ok=True)
        (folder / split / "non_covid").mkdir(exist_ok=True)
    for index, path in enumerate(sorted((DATA / "external_dev" / "non_covid").iterdir())):
        split = "Train" if index % 5 else "Test"
        shutil.copy(path, folder / split / "non_covid" / path.name)
    # Patients of the sample; each image of external_dev is a patient of its own.
    header, *rows = (sample / "groups.csv").read_text(encoding="utf-8").splitlines()
    rows = [row for row in rows if (folder / row.split(",")[0]).exists()]
    (folder / "groups.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")


def train(recipe: str, seed: int, manual_dir: Path, folder: Path) -> Path:
    """Trains a recipe, unless that is done; returns the workdir."""
    workdir = folder / f"{recipe}_{seed}"
    if not (workdir / "metrics.json").exists():
        command = [
            *(sys.executable, "-m", "trainer.main", "--dataset=covid_xray"),
            *(f"--manual_dir={manual_dir}", f"--data_dir={folder / 'data'}"),
            *(*RECIPES[recipe], f"--seed={seed}", f"--workdir={workdir}"),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    return workdir


def predict(workdir: Path, files: Files) -> np.ndarray:
    """Predicts radiographs with the export; [n] float, of the positive class."""
    model = runtime.load(workdir)
    name = model.facts["positive_class"]
    return np.array(
        [
            model.predict_radiograph(radiograph.read(str(path))).probabilities[name]
            for path, _ in tqdm(files, workdir.name, leave=False, disable=None)
        ]
    )


def judge_maps(mapped: Callable[[views.Square], np.ndarray], view: str, side: int) -> float:
    """Computes the pixel AUC of maps against outlined lesions, mean over films.

    Only pixels that the radiologists outlined as lung or lesion count.

    Args:
      mapped: from the square of a radiograph to its map, [height, width].
      view: that the square shows.
      side: of the square.
    """
    values = []
    for row in csv.DictReader((DATA / "lungs" / "lesions.csv").open(encoding="utf-8")):
        outline = Image.open(DATA / row["mask"])
        square = views.make_square(radiograph.read(str(DATA / row["image"])), side, view)
        box = np.array(square.box) * np.tile(outline.size, 2)
        marks = np.asarray(
            outline.transform(
                (side, side), Image.Transform.EXTENT, tuple(box), Image.Resampling.NEAREST
            )
        )
        evidence = Image.fromarray(mapped(square).astype(np.float32))
        evidence = np.asarray(evidence.resize((side, side), Image.Resampling.BILINEAR))
        lung, lesion = marks >= _LUNG, marks >= _LESION
        if lesion.any() and (lung & ~lesion).any():
            auc = weighted.aucs(lesion[lung], evidence[lung].astype(float))
            values.append(float(auc(np.ones((1, int(lung.sum()))))[0]))
    return float(np.mean(values))


def lower_and_lateral(square: views.Square) -> np.ndarray:
    """The prior: lower and more lateral in the lungs."""
    mask = square.lungs
    assert mask is not None
    rows, columns = np.nonzero(mask) if mask.any() else (np.arange(2), np.arange(2))
    down, across = np.mgrid[: mask.shape[0], : mask.shape[1]]
    down = (down - rows.mean()) / np.ptp(rows)
    return down + np.abs(across - columns.mean()) / np.ptp(columns)


def pixels_auc(workdir: Path) -> float:
    """Judges the maps of a run's export for the positive class."""
    model = runtime.load(workdir)
    index = model.facts["class_names"].index(model.facts["positive_class"])
    return judge_maps(
        lambda square: model.run(square.pixels[None, ..., None], with_map=True)["map"][
            0, ..., index
        ],
        model.view,
        model.side,
    )


def mean_auc(scores: list[np.ndarray], positive: np.ndarray) -> weighted.Statistic:
    """Builds the function from weights to the mean AUC over runs."""
    each = [weighted.aucs(positive, score) for score in scores]
    return lambda weights: np.mean([statistic(weights) for statistic in each], axis=0)


def compare(files: Files, scores: list[np.ndarray], first: list[np.ndarray]) -> str:
    """Formats a recipe's mean AUC and its paired difference to the first recipe."""
    positive = np.array([label for _, label in files])
    statistic, other = mean_auc(scores, positive), mean_auc(first, positive)
    every = np.ones((1, len(files)))
    value = statistic(every)[0]
    names = np.array([path.name for path, _ in files])  # each image is a patient of its own
    low, high = intervals.percentiles(
        intervals.resample(lambda weights: statistic(weights) - other(weights), names)
    )
    return f"{value:.3f}, difference {value - other(every)[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def judge_set(name: str, folder: Path, recipes: list[str], seeds: int) -> None:
    """Trains the recipes on one training set and prints a line each."""
    hospitals = {
        hospital: list_classes(DATA / hospital) for hospital in ("external_dev", "external_dev_web")
    }
    manual_dir = DATA / "covid_xray_sample"
    if name == "exchanged":
        manual_dir = folder / "images"
        exchange_sources(manual_dir)
        # The negative images of both external sets are RSNA's, which this set is trained on.
        test = list_classes(DATA / "covid_xray_sample" / "covid_update" / "Test")
        negatives = [file for file in test if not file[1]]
        hospitals = {
            f"{hospital}, negatives of the sample": [file for file in files if file[1]] + negatives
            for hospital, files in hospitals.items()
        }
    hospitals["one_collection"] = list_collection()
    scores: dict[str, dict[str, list[np.ndarray]]] = {}
    for recipe in recipes:
        workdirs = [train(recipe, seed, manual_dir, folder) for seed in range(seeds)]
        for hospital, files in hospitals.items():
            for workdir in workdirs:
                stored = workdir / f"{hospital}.npy"
                if not stored.exists():
                    np.save(stored, predict(workdir, files))
                scores.setdefault(recipe, {}).setdefault(hospital, []).append(np.load(stored))
        tests = [read_json(workdir / "metrics.json")["test"] for workdir in workdirs]
        own = [test["roc_auc"]["value"] for test in tests]
        maps = [pixels_auc(workdir) for workdir in workdirs]
        cells = []
        for hospital, files in hospitals.items():
            mine, first = scores[recipe][hospital], scores[recipes[0]][hospital]
            cells.append(f"{hospital} {compare(files, mine, first)}")
        spreads = [
            f"{label} {np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
            for label, values in (("own test", own), ("maps", maps))
        ]
        print(" | ".join([name, recipe, *spreads, *cells]), flush=True)


def main() -> None:
    """Judges the recipes on each training set."""
    options = parse_arguments(
        __doc__, output=str, recipes="default,robust", seeds=5, sets="sample,exchanged"
    )
    prior = judge_maps(lower_and_lateral, views.LUNGS, _PRIOR_SIDE)
    print(f"maps: AUC of the prior (lower and more lateral) {prior:.3f}", flush=True)
    for name in options.sets.split(","):
        judge_set(name, Path(options.output) / name, options.recipes.split(","), options.seeds)


if __name__ == "__main__":
    main()
