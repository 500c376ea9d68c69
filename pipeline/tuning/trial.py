"""One trial of a study in its own process: sample settings, train, and evaluate on val."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna import TrialPruned
from optuna.trial import TrialState

from pipeline.errors import BadInput, Diverged
from pipeline.extensions import resolve
from pipeline.progress import Progress, silent
from pipeline.recipes.space import read_axes
from pipeline.runs.spec import RunSpec
from pipeline.runs.train import prepare_job
from pipeline.training.history import Clock, History
from pipeline.tuning.study import FAILURE_REASON, distributions, open_study, seal_study, settings_of


def run_trial(
    spec: dict[str, Any],
    space: dict[str, Any],
    inputs: dict[str, str],
    study: str,
    draw: int,
    progress: Progress = silent,
) -> None:
    """Ask the study in a file for settings, train with them, and report val accuracy or failure to it.

    spec is a RunSpec as JSON, inputs are folders, space is the axes; draw seeds the sampler. If the loss
    diverges or the settings contradict each other, the trial is marked as failed and nothing is raised.
    """
    run = RunSpec.from_json(spec)
    path, recipe = Path(study), run.load_recipe()
    optuna_study = open_study(path, draw, run.seed)
    trial = optuna_study.ask(distributions(recipe, read_axes(recipe, space)))

    def on_epoch_end(history: History) -> None:
        trial.report(history.rows[-1]["val_accuracy"], len(history.rows))
        if trial.should_prune():
            raise TrialPruned

    trial_spec = run.with_settings(settings_of(recipe, trial.params))
    value, state = None, TrialState.COMPLETE
    try:
        value = val_accuracy(trial_spec.as_json(), inputs, progress, on_epoch_end)
    except TrialPruned:
        state = TrialState.PRUNED
    except (Diverged, BadInput) as error:
        trial.set_user_attr(FAILURE_REASON, str(error))
        state = TrialState.FAIL
    optuna_study.tell(trial, value, state=state)
    seal_study(path)


def val_accuracy(
    spec: dict[str, Any],
    inputs: dict[str, str],
    progress: Progress = silent,
    on_epoch_end: Callable[[History], None] | None = None,
) -> float:
    """Train a network by a RunSpec as JSON and return its accuracy on val, 0 … 1; test is not used."""
    run, options = RunSpec.from_json(spec), {"clock": Clock(), "progress": progress}
    job, _ = prepare_job(run, inputs, **options, splits=("val",), on_epoch_end=on_epoch_end)
    trained = resolve(run.scheme_row.train)(job)
    correct = trained.probabilities.argmax(axis=1) == job.images.labels[trained.rows]
    return float(correct.mean())
