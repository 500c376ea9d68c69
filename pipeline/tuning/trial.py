"""One trial of a study, in a process of its own: settings are drawn, trained, and judged on val alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from pipeline.errors import BadInput, Diverged
from pipeline.progress import Progress, silent
from pipeline.recipes.settings import override
from pipeline.recipes.space import read_axes
from pipeline.runs.spec import RunInputs, RunSpec
from pipeline.runs.train import prepare_job, train
from pipeline.training.history import Clock, History
from pipeline.tuning.study import REASON, distributions, opened, seal, settings_of


class Pruned(Exception):
    """A trial lies below the median of those before it, and is ended."""


def run_trial(
    spec: dict[str, Any],
    space: dict[str, Any],
    inputs: dict[str, str],
    study: str,
    draw: int,
    progress: Progress = silent,
) -> None:
    """Ask the study in a file for settings, train with them, and tell it val accuracy or how it ended.

    spec and inputs are a RunSpec and RunInputs as JSON, space the axes; draw decides what is drawn. A trial
    whose loss diverges, or whose settings contradict each other, has failed with a reason and is no error.
    """
    run = RunSpec.from_json(spec)
    path, recipe = Path(study), recipe_of(run)
    told = opened(path, draw, run.seed)
    trial = told.ask(distributions(recipe, read_axes(recipe, space)))

    def watch(history: History) -> None:
        trial.report(history.rows[-1]["val_accuracy"], len(history.rows))
        if trial.should_prune():
            raise Pruned

    drawn = run.with_settings(settings_of(recipe, trial.params))
    value, state = None, TrialState.COMPLETE
    try:
        value = val_accuracy(drawn, RunInputs(**inputs), watch=watch, progress=progress)
    except Pruned:
        state = TrialState.PRUNED
    except (Diverged, BadInput) as error:
        trial.set_user_attr(REASON, str(error))
        state = TrialState.FAIL
    told.tell(trial, value, state=state)
    seal(path)


def run_again(spec: dict[str, Any], inputs: dict[str, str], progress: Progress = silent) -> float:
    """Return the accuracy on val of a training to its end, by its own settings and seed."""
    return val_accuracy(RunSpec.from_json(spec), RunInputs(**inputs), watch=None, progress=progress)


def val_accuracy(
    spec: RunSpec, inputs: RunInputs, *, watch: Callable[[History], None] | None, progress: Progress
) -> float:
    """Return the accuracy on val, 0 … 1, of a network that is trained by spec; no test image is seen."""
    job, _ = prepare_job(spec, inputs, clock=Clock(), progress=progress, splits=("val",), watch=watch)
    trained = train(spec, job)
    right = trained.probabilities.argmax(axis=1) == job.images.labels[trained.rows]
    return float(right.mean())


def recipe_of(spec: RunSpec) -> Any:
    """Return the recipe that a study starts from."""
    return override(spec.scheme_row.recipes[spec.row], spec.settings)
