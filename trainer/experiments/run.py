"""One training run, from the data set to the report.

    result = train_and_evaluate(TrainConfig(epochs=3))

The same configuration with the same workdir resumes a stopped run.
"""

import time

from trainer.analysis import calibration
from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data.run import open_run
from trainer.evaluation import export_network, finish, near_duplicates, run_figures
from trainer.evaluation.finish import Scored
from trainer.evaluation.result import Result
from trainer.experiments import self_training, starting_weights
from trainer.training import distribution, loop, models
from trainer.training.distribution import Workers


def train_and_evaluate(
    config: TrainConfig, out_of_fold: Predictions | None = None, teaches: bool = False
) -> Result:
    """Trains one model, scores every split once and writes everything to the workdir.

    A finished run is reported and not trained again. `repeats.run` makes cross-validations and
    repetitions of several such runs.

    Args:
      config: as the user gave it; fields left open are resolved and recorded in config.json.
      out_of_fold: uncalibrated predictions of cross-validation members on the folds held out from
        them. Temperature and thresholds of a model trained on all of Train are fitted to them.
      teaches: whether the model only teaches the next round; then it is not scored on test.

    Returns:
      The scores and the workdir.

    Raises:
      UserError: the run is impossible; nothing of the user's was overwritten.
      Stopped: after Ctrl-C or SIGTERM, with a checkpoint saved.
    """
    started = time.monotonic()
    # Before any other TensorFlow operation: devices cannot be changed later.
    resolved = models.resolve(config)
    strategy = distribution.make_strategy(resolved)
    workers = Workers.of(strategy)
    with workers.exit_if_worker_lost(), workers.chief_runs_first():
        starting_weights.check(resolved)
        run = open_run(resolved, requested=config, writes=workers.chief)
        finished = run.workdir.finished
        if not finished:
            # The chief searches and stores the pairs, the others read them.
            duplicates = near_duplicates.find_in_dataset(run.data, run.config.group_copies)
    if finished:
        return finish.reopen(run.workdir)

    find_opacities = self_training.teacher(run)
    if workers.chief:
        for remark in starting_weights.remarks(run):
            print(remark, flush=True)
    initialize = starting_weights.initializer(run)
    trained = loop.train(run, duplicates, workers, find_opacities, initialize, not teaches)
    if workers.chief:
        run_figures.draw_training(run, trained)
        # Of images that no weight was fitted to.
        held_out = out_of_fold or trained.predictions.get("validation")
        trained.facts["seconds"]["total"] = round(time.monotonic() - started, 1)
        fitted = calibration.fit(held_out) if held_out else None
        scored = Scored(trained.splits, trained.predictions, held_out, duplicates, fitted)
        network = export_network.build_export(trained.model, run.data.side, scored.divisor)
        finish.finish(run, scored, network, trained.facts)
    with workers.exit_if_worker_lost():
        workers.barrier()  # The other workers read metrics.json after the chief has written it.
    return Result(run.workdir, run.workdir.metrics())
