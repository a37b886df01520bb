"""Time and memory to read label files of the size of CheXpert and of NIH ChestX-ray14.

    python -m tests.studies.label_files            # the labels alone
    python -m tests.studies.label_files --files    # of empty images, by trainer.audit --dry_run

The rows are made up, in the layout of the sets.
"""

import argparse
import csv
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

CHEXPERT = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion"),
    *("Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion"),
    *("Pleural Other", "Fracture", "Support Devices"),
)
CHEXPERT_ROWS = {"train": 223_766, "valid": 234}
NIH_ROWS = {"train_val_list.txt": 86_524, "test_list.txt": 25_596}

_READ = (
    "import sys, pathlib\n"
    "from trainer.data import columns, radiograph_set\n"
    "folder = pathlib.Path(sys.argv[1])\n"
    "filenames = (folder / 'files.lst').read_text(encoding='utf-8').splitlines()\n"
    "images = radiograph_set.read_files(folder, filenames, columns.Named())\n"
    "print(images.sentence)"
)


def write_chexpert(folder: Path) -> list[str]:
    """Writes train.csv and valid.csv in the layout of CheXpert; returns the names of the images."""
    rng = np.random.default_rng(0)
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT]
    cells = np.array(["1.0", "0.0", "-1.0", ""])
    filenames = []
    for split, count in CHEXPERT_ROWS.items():
        findings = cells[rng.choice(4, (count, len(CHEXPERT)), p=(0.15, 0.1, 0.05, 0.7))]
        # About 3.5 images a patient.
        names = [
            f"{split}/patient{index * 2 // 7:05d}/study{index % 7 // 2}/view{index % 2}_frontal.jpg"
            for index in range(count)
        ]
        rows = (
            [f"CheXpert-v1.0-small/{name}", "Male", 20 + index % 70, "Frontal", "AP", *row]
            for index, (name, row) in enumerate(zip(names, findings.tolist(), strict=True))
        )
        _write(folder / f"{split}.csv", itertools.chain([header], rows))
        filenames += names
    return filenames


def write_nih(folder: Path, findings: Sequence[str]) -> list[str]:
    """Writes Data_Entry_2017.csv and the official lists; returns the names of the images."""
    rng = np.random.default_rng(0)
    header = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age"]
    count = sum(NIH_ROWS.values())
    names = [f"{index * 30_805 // count + 1:08d}_{index:06d}.png" for index in range(count)]
    marked = rng.random((count, len(findings))) < 0.05
    labels = ["|".join(itertools.compress(findings, row)) or "No Finding" for row in marked]
    rows = (
        [name, label, index % 4, int(name[:8]), 20 + index % 70]
        for index, (name, label) in enumerate(zip(names, labels, strict=True))
    )
    _write(folder / "Data_Entry_2017.csv", itertools.chain([header], rows))
    start = 0
    for list_name, length in NIH_ROWS.items():
        text = "\n".join(names[start : start + length])
        (folder / list_name).write_text(text + "\n", encoding="utf-8")
        start += length
    return [f"images_{index % 12 + 1:03d}/images/{name}" for index, name in enumerate(names)]


def _write(path: Path, rows: Iterable[Sequence]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _measure(name: str, command: list[str]) -> None:
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - start
    # The largest of all children so far; the sets are in the order of their size.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{name}: {seconds:.1f} s, peak {peak:.0f} MB, the start of Python included")
    print(f"  {done.stdout.splitlines()[0]}", flush=True)


def main() -> None:
    """Measures each set in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", action="store_true", help="write an empty file for each image")
    arguments = parser.parse_args()
    from trainer.data import prepared

    nih = prepared.load_builder_module("nih_chest_xray14").Builder.CLASSES
    for name in ("NIH ChestX-ray14", "CheXpert"):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            names = write_chexpert(folder) if name == "CheXpert" else write_nih(folder, nih)
            command = [sys.executable, "-c", _READ, temporary]
            (folder / "files.lst").write_text("\n".join(names), encoding="utf-8")
            if arguments.files:
                command = [sys.executable, "-m", "trainer.audit", "--dry_run"]
                command.append(f"--manual_dir={temporary}")
                for filename in names:
                    path = folder / filename
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
            _measure(name, command)


if __name__ == "__main__":
    main()
