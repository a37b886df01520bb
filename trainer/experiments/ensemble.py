"""The mean of several members as one model: saved and scored like any other."""

import time

from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data.prepared import Prepared
from trainer.evaluation import export_network, finish, near_duplicates, saved_model
from trainer.training import input_pipeline, summary
from trainer.workdir import Workdir


def save_and_score(
    config: TrainConfig,
    data: Prepared,
    work: Workdir,
    members: list[summary.Result],
    held_out: Predictions | None,
    started: float,
) -> summary.Result:
    """Averages the members' saved models, saves the average in the workdir and scores it once on train and test.

    Args:
      config: of the repetition, resolved.
      data: the set the members were trained on.
      work: where the average goes.
      members: finished runs.
      held_out: what members said of parts held out from them; the thresholds come from there.
      started: `time.monotonic()` when the command began.
    """
    if work.finished:
        return summary.Result(work, work.metrics(), resumed=True)
    models = [saved_model.load(member.workdir.path).network for member in members]
    model = saved_model.SavedModel(export_network.average_of(models), {})
    known_copies = near_duplicates.of_prepared(data, config.group_copies)
    parts = {}
    for name in ("train", "test"):
        part = input_pipeline.load(data.builder, name, data.side)
        parts[name] = part.with_groups(known_copies.join(part.filenames, part.groups))
    said = {
        name: finish.predictions_of(part, model.predict(part.images)[0], data)
        for name, part in parts.items()
    }
    return finish.finish(
        work,
        data,
        config,
        finish.Scored(parts, said, held_out, known_copies),
        lambda temperature: model.network,
        {
            "members": len(members),
            "parameters": model.network.count_params(),
            "seconds": {"total": round(time.monotonic() - started, 1)},
        },
    )
