"""The images of one evaluation: a split of the run's own data, or an external set.

test = open_own(run, "test")
"""

import dataclasses

from trainer.analysis import predictions
from trainer.data import records, split
from trainer.data.records import Records
from trainer.data.run import Run
from trainer.errors import UserError
from trainer.evaluation import near_duplicates


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """The images of one evaluation.

    Attributes:
      name: of the folder under evaluation/ and in titles.
      records: the images, with near-duplicates merged into one group.
      remarks: what a reader must know about them, one line each.
    """

    name: str
    records: Records
    remarks: tuple[str, ...]


def open_own(run: Run, name: str) -> EvaluationSet:
    """Reads validation, or test without the images that copy a training image."""
    duplicates = near_duplicates.find_in_dataset(run.data, run.config.group_copies)
    if name == "validation":
        path = run.workdir.predictions / "validation.csv"
        if not path.exists():
            raise UserError("this run held out no validation images; score it with --split=test.")
        # As the run recorded them. The split depends on the order of the images.
        recorded = predictions.read(path, run.data.positive_class).filenames
        given = "validation" in run.data.builder.info.splits and not run.config.folds
        source = "validation" if given else "train"
        validation = records.read(run.data.builder, source, only=recorded)
        fitted = "the temperature"
        if split.selects_best(run.config):
            fitted = "the weights and the temperature"
        warning = (
            f"The validation part chose {fitted}: its scores are too good to be reported as a test."
        )
        remarks = (*sample_remarks(validation), warning)
        return EvaluationSet(name, duplicates.merge_records(validation), remarks)
    test = duplicates.merge_records(records.read(run.data.builder, "test"))
    remarks = sample_remarks(test)
    # Copies of training images: the model knows them by heart.
    copied = duplicates.copied_from_elsewhere(test.filenames)  # [n] bool
    if copied.all():
        raise UserError(
            "every test image copies a training image, so no test score can be given; score the "
            "run on other images with --manual_dir."
        )
    if copied.any():
        warning = (
            f"{copied.sum()} of {len(test)} test images copy a training image and are left out "
            "here; metrics.json has the score of them all."
        )
        return EvaluationSet(name, test.take(~copied), (*remarks, warning))
    return EvaluationSet(name, test, remarks)


def sample_remarks(images: Records) -> tuple[str, ...]:
    """Returns the remark that the images are a sample; nothing where they are all."""
    return (images.sampling_note,) if images.sampling_note else ()
