"""Example images that are free to ship: synthetic radiographs, cached in the user's folder.

paths = examples.draw_examples()
"""

import os
from pathlib import Path

from PIL import Image

from trainer.data import phantom

# Ordinary ones; of all phantoms 2 % are refused, as many as of training radiographs.
_SEED = 86
_COUNT = 4


def cache_folder() -> Path:
    """Returns the folder of the examples, in $XDG_CACHE_HOME or ~/.cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    version = f"phantoms_{phantom.GENERATOR_VERSION}_{_SEED}"
    return cache / "chest-radiograph-trainer" / version


def draw_examples(folder: Path | None = None) -> list[Path]:
    """Draws the examples that are missing and returns the paths of all.

    Args:
      folder: of the PNG files; by default `cache_folder()`.
    """
    folder = folder or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(_COUNT):
        label = index % len(phantom.CLASSES)
        path = folder / f"synthetic_{phantom.CLASSES[label]}_{index}.png"
        if not path.exists():
            # Renamed when it is whole: another page may start at the same time.
            temporary = path.with_suffix(".part")
            Image.fromarray(phantom.draw(_SEED, index, label).image).save(temporary, "PNG")
            temporary.replace(path)
        paths.append(path)
    return paths
