"""A planted shortcut that is inverted in test: does a recipe see it, or the lungs?

    python -m tests.studies.planted --output=FOLDER [--test=200]

Each recipe is trained on phantoms of which every positive one has the shortcut. In test the
negative ones have it: a network that sees the shortcut alone has an AUC of 0, one that sees the
lungs alone an AUC of 1. Of phantoms without a shortcut it also measures the map for the positive
class within the lungs: the AUC of the opacity's pixels, and their Dice with as many of the map's
highest pixels. Runs stay in the folder.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.conftest import ROOT
from tests.studies import parse_arguments
from trainer.analysis import intervals, weighted
from trainer.data import phantom, radiograph, shortcuts, views
from trainer.inference import runtime

RECIPES = {"default": ("--epochs=13",), "robust": ("--flagfile=flags/robust.flags",)}
_SEED = 10_000  # Of the test phantoms: no training set has it.


def train(recipe: str, shortcut: str, folder: Path) -> runtime.Model:
    """Trains a recipe on phantoms with a shortcut, unless that is done."""
    workdir = folder / f"{recipe}_{shortcut}"
    if not (workdir / "metrics.json").exists():
        command = [
            *(sys.executable, "-m", "trainer.main", "--dataset=phantom"),
            *(f"--phantom_shortcut={shortcut}", f"--data_dir={folder / 'data'}"),
            *(*RECIPES[recipe], f"--workdir={workdir}"),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    return runtime.load(workdir)


def inverted_auc(model: runtime.Model, shortcut: str, count: int) -> intervals.Estimate:
    """Measures the AUC on phantoms whose negative ones have the shortcut."""
    labels = np.arange(count) % 2
    scores = []
    for index, label in enumerate(labels):
        image = phantom.draw(_SEED, index, int(label)).image
        square = views.make_square(
            shortcuts.plant(image, 1 - int(label), shortcut), model.side, model.view
        )
        scores.append(model.predict(square.pixels).probabilities[model.facts["positive_class"]])
    return intervals.auc(labels == 1, np.array(scores), np.arange(count).astype(str))


def map_scores(model: runtime.Model, count: int) -> tuple[float, float]:
    """Measures maps on positive phantoms: pixel AUC and Dice in the lungs, mean over images."""
    positive = model.facts["class_names"].index(model.facts["positive_class"])
    aucs, dices = [], []
    for index in range(count):
        example = phantom.draw(_SEED, index, 1)
        square = views.make_square(example.image, model.side, model.view)
        evidence = model.run(square.pixels[None, ..., None], with_map=True)["map"][0, ..., positive]
        lung, lesion = (
            radiograph.standardize(mask * np.uint8(255), model.side, square.box) > 127
            for mask in (example.lung_mask, example.lesion_mask)
        )
        inside = lesion[lung]
        values = evidence[lung].astype(float)
        if inside.any() and not inside.all():
            aucs.append(float(weighted.aucs(inside, values)(np.ones((1, len(values))))[0]))
            highest = np.argsort(-values, kind="stable")[: inside.sum()]
            dices.append(inside[highest].mean())
    return float(np.mean(aucs)), float(np.mean(dices))


def main() -> None:
    """Trains and measures both recipes, and prints a line a shortcut."""
    options = parse_arguments(__doc__, output=str, test=200)
    for shortcut in ("marker", "border"):
        for recipe in RECIPES:
            model = train(recipe, shortcut, Path(options.output))
            print(
                f"{shortcut}, {recipe}: {inverted_auc(model, shortcut, options.test)}", flush=True
            )
    for recipe in RECIPES:
        model = train(recipe, "none", Path(options.output))
        print(f"maps, {recipe}: pixel AUC and Dice", *map_scores(model, options.test // 4))


if __name__ == "__main__":
    main()
