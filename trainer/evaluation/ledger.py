"""How often a test split has been scored: each scoring is a line of a file beside the data, over all workdirs.

A test that is looked at again and again is no test any more. The split is known by its content, so renaming or reordering its
files starts no new count.
"""

import datetime
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from trainer.analysis.intervals import Estimate

try:
    import fcntl
except ImportError:  # Not on Windows, where one short appending write is as good as it gets.
    fcntl = None


def fingerprint(images: Iterable[np.ndarray], labels: np.ndarray) -> str:
    """Names a split by its pixels and labels, whatever its files are called and however they are ordered.

    Args:
      images: n arrays of any shape and type, as the model is given them.
      labels: [n] int.

    Returns:
      64 hexadecimal digits, the SHA-256 over the sorted digests of (pixels, label).
    """
    digests = sorted(
        _digest(np.ascontiguousarray(image), int(label))
        for image, label in zip(images, labels, strict=True)
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()


def entry(
    command: str,
    workdir: str,
    weights_sha256: str,
    split: str,
    n: int,
    accuracy: Estimate,
    roc_auc: Estimate,
) -> dict[str, Any]:
    """One scoring, as a line of the ledger holds it, with the time now (UTC, ISO 8601)."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "time": now,
        "command": command,
        "workdir": str(workdir),
        "weights_sha256": weights_sha256,
        "split": split,
        "images": n,
        "accuracy": accuracy.to_dict(),
        "roc_auc": roc_auc.to_dict(),
    }


def append(data_dir: str | Path, split_fingerprint: str, line: dict[str, Any]) -> str:
    """Adds a scoring. Processes may do so at the same time: each line is one locked write at the file's end.

    Args:
      data_dir: where the prepared data lies.
      split_fingerprint: as `fingerprint` gives it.
      line: as `entry` gives it; anything JSON can hold.

    Returns:
      empty, or one line of warning where the ledger cannot be written: scores are not lost for it.
    """
    place = path(data_dir, split_fingerprint)
    text = (json.dumps(line, separators=(",", ":")) + "\n").encode()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(place, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if fcntl:
                fcntl.flock(handle, fcntl.LOCK_EX)
            os.write(handle, _mended(handle) + text)
        finally:
            os.close(handle)
    except OSError as error:
        return (
            f"warning: this scoring could not be noted in {place} ({error.strerror}); its count of "
            "scorings is too low. Make the folder writable or use another --data_dir."
        )
    return ""


def read(data_dir: str | Path, split_fingerprint: str) -> list[dict[str, Any]]:
    """All scorings of a split, oldest first; empty where there is none. Lines cut off in writing are left out."""
    try:
        lines = (
            path(data_dir, split_fingerprint)
            .read_text(encoding="utf-8", errors="replace")
            .splitlines()
        )
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def count(data_dir: str | Path, split_fingerprint: str) -> int:
    """How often a split has been scored."""
    return len(read(data_dir, split_fingerprint))


def path(data_dir: str | Path, split_fingerprint: str) -> Path:
    """Where the ledger of a split lies."""
    return Path(data_dir) / "ledger" / f"{split_fingerprint[:16]}.jsonl"


def _digest(image: np.ndarray, label: int) -> bytes:
    described = f"{image.dtype.str} {image.shape} {label} ".encode()
    return hashlib.sha256(described + hashlib.sha256(image.tobytes()).digest()).digest()


def _mended(handle: int) -> bytes:
    """A line's end where the last writer was killed before its own, so that its line does not take the next one with it."""
    size = os.lseek(handle, 0, os.SEEK_END)
    if size == 0:
        return b""
    os.lseek(handle, -1, os.SEEK_END)
    return b"" if os.read(handle, 1) == b"\n" else b"\n"
