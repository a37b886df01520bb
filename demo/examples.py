"""Examples that are free to ship: synthetic radiographs, drawn at the first start and kept in the user's cache."""

import os
from pathlib import Path

from PIL import Image

from trainer.data import phantom

_SEED, _COUNT = 86, 4  # Ordinary ones; of all phantoms 2 % are refused, as the threshold has it.


def drawn(folder: Path | None = None) -> list[Path]:
    """Paths of the examples, drawn where they are missing.

    Args:
      folder: where they lie; default: chest-radiograph-trainer/ in $XDG_CACHE_HOME, else in ~/.cache.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = (
        folder
        or cache / "chest-radiograph-trainer" / f"phantoms_{phantom.GENERATOR_VERSION}_{_SEED}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(_COUNT):
        label = index % len(phantom.CLASSES)
        path = folder / f"synthetic_{phantom.CLASSES[label]}_{index}.png"
        if not path.exists():
            part = path.with_suffix(".part")
            Image.fromarray(phantom.draw(_SEED, index, label).image).save(part, "PNG")
            part.replace(path)
        paths.append(path)
    return paths
