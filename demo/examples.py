"""Example images that are free to ship: synthetic radiographs.

paths = examples.draw_examples(folder)
"""

from pathlib import Path

from PIL import Image

from trainer.data import phantom

# Ordinary ones; of all phantoms 2 % are refused, as many as of training radiographs.
_SEED = 86
_COUNT = 4


def draw_examples(folder: Path) -> list[Path]:
    """Draws the examples into a folder as PNG files and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(_COUNT):
        label = index % len(phantom.CLASSES)
        path = folder / f"synthetic_{phantom.CLASSES[label]}_{index}.png"
        Image.fromarray(phantom.draw(_SEED, index, label).image).save(path, "PNG")
        paths.append(path)
    return paths
