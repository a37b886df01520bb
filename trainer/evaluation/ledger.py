"""The ledger: one line for each scoring of a test split, in a file beside the data.

    warning = append(data_dir, fingerprint(images, labels), entry(…))

Model selection on repeated scores leaks the test set. The ledger counts the scorings over all
workdirs. A split is identified by its content, so that renamed files start no new count.
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
except ImportError:  # Windows has no file locks of this kind; one short append must do.
    fcntl = None  # type: ignore[assignment]


def fingerprint(images: Iterable[np.ndarray], labels: np.ndarray) -> str:
    """Computes the identity of a split from its pixels and labels.

    Names and order of the images do not matter.

    Args:
      images: n arrays of any shape and type, as the model reads them.
      labels: [n] int, or [n, findings] int.

    Returns:
      64 hexadecimal digits, the SHA-256 over the sorted digests of (pixels, label).
    """
    digests = [
        _digest(np.ascontiguousarray(image), label.tolist())
        for image, label in zip(images, labels, strict=True)
    ]
    # Sorted: the order of the images does not matter.
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def entry(
    command: str,
    workdir: str,
    weights_sha256: str,
    split: str,
    n: int,
    accuracy: Estimate,
    roc_auc: Estimate,
) -> dict[str, Any]:
    """Returns a line of the ledger with the present time (UTC, ISO 8601)."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "workdir": workdir,
        "weights_sha256": weights_sha256,
        "split": split,
        "images": n,
        "accuracy": accuracy.to_dict(),
        "roc_auc": roc_auc.to_dict(),
    }


def append(data_dir: str | Path, split_fingerprint: str, line: dict[str, Any]) -> str:
    """Appends a scoring; several processes may do so at the same time.

    Args:
      data_dir: folder of the prepared sets.
      split_fingerprint: from `fingerprint`.
      line: from `entry`.

    Returns:
      One line of warning if the ledger cannot be written, else an empty string. Scores are not
      lost for it.
    """
    ledger_path = path(data_dir, split_fingerprint)
    text = (json.dumps(line, separators=(",", ":")) + "\n").encode()
    try:
        ledger_path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(ledger_path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if fcntl:
                fcntl.flock(handle, fcntl.LOCK_EX)
            # One write for the whole line: processes do not interleave.
            os.write(handle, _missing_newline(handle) + text)
        finally:
            os.close(handle)
    except OSError as error:
        return (
            f"warning: this scoring could not be noted in {ledger_path} ({error.strerror}); its "
            "count of scorings is too low. Make the folder writable or use another --data_dir."
        )
    return ""


def read(data_dir: str | Path, split_fingerprint: str) -> list[dict[str, Any]]:
    """Reads all scorings of a split, oldest first; damaged lines are left out."""
    try:
        text = path(data_dir, split_fingerprint).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    scorings = []
    for line in text.splitlines():
        try:
            scorings.append(json.loads(line))
        except json.JSONDecodeError:  # A writer was killed in the middle of its line.
            continue
    return scorings


def count(data_dir: str | Path, split_fingerprint: str) -> int:
    """Counts the scorings of a split."""
    return len(read(data_dir, split_fingerprint))


def path(data_dir: str | Path, split_fingerprint: str) -> Path:
    """Returns the path of a split's ledger."""
    # 64 bits tell all splits of a folder apart and keep the name short.
    return Path(data_dir) / "ledger" / f"{split_fingerprint[:16]}.jsonl"


def _digest(image: np.ndarray, label: int | list[int]) -> bytes:
    # Type and shape count too: the same bytes in another shape are another image.
    header = f"{image.dtype.str} {image.shape} {label} ".encode()
    return hashlib.sha256(header + hashlib.sha256(image.tobytes()).digest()).digest()


def _missing_newline(handle: int) -> bytes:
    """Returns the newline that a killed writer left out, if any."""
    if os.lseek(handle, 0, os.SEEK_END) == 0:
        return b""
    os.lseek(handle, -1, os.SEEK_END)
    return b"" if os.read(handle, 1) == b"\n" else b"\n"
