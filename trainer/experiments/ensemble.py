"""The mean of several trained members as one model."""

from trainer.analysis.predictions import Predictions
from trainer.data.run import Run
from trainer.evaluation import export_network, finish, near_duplicates, saved_model
from trainer.evaluation.finish import Scored
from trainer.evaluation.result import Result
from trainer.evaluation.saved_model import SavedModel
from trainer.training import input_pipeline


def save_and_score(
    run: Run,
    members: list[Result],
    held_out: Predictions | None,
    seconds: float,
    teaches: bool = False,
) -> Result:
    """Saves the mean of the members and scores it like any model.

    Args:
      run: the repetition; the average goes to its workdir.
      members: finished runs.
      held_out: members' calibrated predictions of images held out from them; thresholds are fitted
        to them.
      seconds: spent on the members.
      teaches: whether it only teaches the next round; then it is not scored on test.
    """
    # One network that holds all members, so that every export and the demo take it like any other.
    networks = [saved_model.load(member.workdir.path).network for member in members]
    model = SavedModel(export_network.build_ensemble(networks), {})
    duplicates = near_duplicates.find_in_dataset(run.data, run.config.group_copies)
    splits = {}
    predictions = {}
    for name in ("train",) if teaches else ("train", "test"):
        # At the prepared side: the saved network resamples by itself.
        examples = input_pipeline.load(run.data.builder, name, run.data.side)
        splits[name] = duplicates.merge_records(examples)
        probabilities, _ = model.predict(examples.images)  # [n, classes]
        predictions[name] = splits[name].predictions(probabilities, run.data)
    facts = {
        "members": len(members),
        "parameters": sum(member.metrics["parameters"] for member in members),
        "seconds": {"total": round(seconds, 1)},
    }
    # No temperature: each member has its own in its network already.
    scored = Scored(splits, predictions, held_out, duplicates, temperatures=None)
    return finish.finish(run, scored, model.network, facts)
