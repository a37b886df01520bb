"""A finished run as the screen shows it.

print(Result(workdir, workdir.metrics()))
"""

import dataclasses
from pathlib import Path
from typing import Any

from trainer.analysis.intervals import Estimate
from trainer.errors import UserError
from trainer.workdir import Workdir, read_json

SYNTHETIC_WARNING = (
    "SYNTHETIC DATA: drawn, not radiographs of people; these scores say nothing about patients."
)


@dataclasses.dataclass(frozen=True)
class Result:
    """The scores of a finished run and its folder.

    Attributes:
      workdir: its folder.
      metrics: the content of metrics.json.
      resumed: whether the run had finished before this command.
    """

    workdir: Workdir
    metrics: dict[str, Any]
    resumed: bool = False

    def __str__(self) -> str:
        lines = ["this run had finished before; its scores:"] if self.resumed else []
        if self.metrics["dataset"]["synthetic"]:
            lines.append(SYNTHETIC_WARNING)
        lines += self._score_lines() + self._control_lines()
        # Entries are missing for a member of a cross-validation, which is not scored on test.
        near_duplicates = self.metrics.get("near_duplicates", {})
        copied = near_duplicates.get("test_images_copied_from_train")
        if copied:
            lines.append(f"WARNING: {copied} test images copy a training image; see audit/.")
        shared = near_duplicates.get("groups_in_both")
        if shared:
            lines.append(f"WARNING: {shared} patients have images in train and test; see audit/.")
        lines += self._spread_lines()
        ledger = self.metrics.get("ledger")
        if ledger:
            lines.append(
                f"this test split has been scored {ledger['count']} times by runs that share its "
                "data_dir"
            )
            lines += [ledger["warning"]] if ledger["warning"] else []
        path = self.workdir.path
        if not (path / "report.html").exists():  # A member of a cross-validation has no report.
            return "\n".join(
                [*lines, f"written to {path}: metrics.json, figures/, predictions/, model/"]
            )
        lines.append(
            f"written to {path}: report.html (open it), MODEL_CARD.md, metrics.json, figures/, "
            "predictions/, model/, audit/, evaluation/"
        )
        lines.append(
            f"next: python -m trainer.audit --workdir={path}   (retrains without lungs: does the "
            "score come from them?)"
        )
        return "\n".join(lines)

    def _score_lines(self) -> list[str]:
        lines = []
        for split in ("train", "validation", "test"):
            estimates = self.metrics.get(split)
            if estimates:
                # All estimates of a split have the same counts.
                counts = estimates["accuracy"]
                scores = [f"{name} {Estimate(**value)}" for name, value in estimates.items()]
                lines.append(
                    f"{split} ({counts['n']} images, {counts['groups']} groups): "
                    + "  ".join(scores)
                )
        return lines

    def _control_lines(self) -> list[str]:
        lines = []
        for name, control in self.metrics.get("controls", {}).items():
            # The others are in the report: they see the lungs in little detail.
            if control["kind"] == "no_lung":
                accuracy = Estimate(**control["accuracy"])
                auc = Estimate(**control["roc_auc"])
                lines.append(
                    f"control that sees no lung, {name.replace('_', ' ')}: test accuracy "
                    f"{accuracy}  roc_auc {auc}"
                )
        sentence = self.metrics.get("comparison", {}).get("sentence")
        return [*lines, sentence] if sentence else lines

    def _spread_lines(self) -> list[str]:
        # Only repetitions write one.
        path = self.workdir.path / "summary.json"
        if not path.exists():
            return []
        summary = read_spread(path)
        scores = [
            f"{name} {row['mean']:.4f} ({row['min']:.4f} to {row['max']:.4f})"
            for name, row in summary["spread"].items()
        ]
        count = len(summary["members"])
        return [f"{count} {summary['kind']}, {summary['scored_on']}: " + "  ".join(scores)]


def read_spread(path: Path) -> dict[str, Any]:
    """Reads summary.json, the spread of scores over the members of a repetition.

    Raises:
      UserError: an earlier version wrote the file.
    """
    summary = read_json(path)
    # Earlier versions called them least and most.
    if any("min" not in row for row in summary["spread"].values()):
        raise UserError(f"{path} was written by an earlier version; run again in a new --workdir.")
    return summary
