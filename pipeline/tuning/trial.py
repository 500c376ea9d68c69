"""One trial of a study, in a process of its own: settings are drawn, trained, and judged on val alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput, Diverged
from pipeline.progress import Progress, silent
from pipeline.training.loop import History
from pipeline.training.record import Clock, prepare_job, train
from pipeline.training.schemes import SCHEMES
from pipeline.training.settings import override
from pipeline.tuning.seals import tell
from pipeline.tuning.space import read_axes
from pipeline.tuning.study import REASON, distributions, opened, settings_of


class Pruned(Exception):
    """A trial lies below the median of those before it, and is ended."""


def run_trial(
    order: dict[str, Any], study: str, draw: int, progress: Progress = silent, **inputs: str
) -> None:
    """Ask the study in a file for settings, train with them, and tell it val accuracy or how it ended.

    order has what a run's order has, and the axes of the space; draw decides what is drawn. A trial whose
    loss diverges, or whose settings contradict each other, has failed with a reason and is no error.
    """
    from filelock import FileLock
    from optuna.trial import TrialState

    path, recipe = Path(study), recipe_of(order)
    opened_study = opened(path, draw, order["seed"])
    with FileLock(path.with_name(f".{path.name}.lock")):  # SQLite gives one waiting trial to two who ask
        trial = opened_study.ask(distributions(recipe, read_axes(recipe, order["space"])))

    def watch(history: History) -> None:
        trial.report(history.rows[-1]["val_accuracy"], len(history.rows))
        if trial.should_prune():
            raise Pruned

    try:
        value = val_accuracy(
            {**order, "settings": {**order["settings"], **settings_of(recipe, trial.params)}},
            watch=watch,
            progress=progress,
            **inputs,
        )
    except Pruned:
        tell(opened_study, trial, state=TrialState.PRUNED)
    except (Diverged, BadInput) as error:
        trial.set_user_attr(REASON, str(error))
        tell(opened_study, trial, state=TrialState.FAIL)
    else:
        tell(opened_study, trial, value)


def run_again(order: dict[str, Any], progress: Progress = silent, **inputs: str) -> float:
    """Return the accuracy on val of a training to its end by order's settings and seed."""
    return val_accuracy(order, watch=None, progress=progress, **inputs)


def val_accuracy(
    order: dict[str, Any], *, watch: Callable[[History], None] | None, progress: Progress, **inputs: str
) -> float:
    """Return the accuracy on val, 0 … 1, of a network that is trained by order; no test image is seen."""
    job, _ = prepare_job(order, **inputs, clock=Clock(), progress=progress, splits=("val",), watch=watch)
    trained = train(order, job)
    right = trained.probabilities.argmax(axis=1) == job.images.labels[trained.rows]
    return float(right.mean())


def recipe_of(order: dict[str, Any]) -> Any:
    """Return the recipe that a study starts from."""
    return override(row_of(order), order["settings"])


def row_of(order: dict[str, Any]) -> Any:
    """Return the row of the scheme's recipes that a study's recipe is, or was found from."""
    name, _, recipe = order["scheme"].partition(":")
    return SCHEMES[name].recipes[order.get("row", recipe)]
