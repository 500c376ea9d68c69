"""A study on the disk: trials asked for one after the other, each in a process of its own.

Optuna keeps the study in SQLite. What a trial draws follows from the study's seed and from how many trials
were finished before it, so that a study that was killed goes on as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from pipeline.errors import HeadstartError
from pipeline.recipes.space import Axis, Choice, is_whole, text_of, value_of

FILE, NAME = "study.db", "headstart"
STARTUP_TRIALS = 8  # drawn at random before the sampler learns from them
PRUNING_TRIALS, PRUNING_EPOCHS = 5, 1  # whole curves, and epochs of a curve, before anything is pruned
WAIT_SECONDS = 60  # for another process that writes
REASON, AGAIN = "reason", "again"  # of a trial: why it failed; that it repeats one that was broken off


@dataclass(frozen=True)
class Budget:
    """When a study is over: after so many trials or minutes of them, 0 for no limit of that kind."""

    trials: int
    minutes: float = 0.0


def opened(path: Path, draw: int = 0, seed: int = 0) -> optuna.Study:
    """Return the study in a file, made where there is none; draw and seed decide what it samples next."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = {"connect_args": {"timeout": WAIT_SECONDS}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of constant_liar
        sampler = optuna.samplers.TPESampler(
            seed=(1_000_003 * seed + draw) % 2**32, n_startup_trials=STARTUP_TRIALS, constant_liar=True
        )
    with _loggers_as_they_are():
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs=options)
    return optuna.create_study(
        study_name=NAME,
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(PRUNING_TRIALS, n_warmup_steps=PRUNING_EPOCHS),
    )


@contextlib.contextmanager
def _loggers_as_they_are() -> Iterator[None]:
    """Undo what Alembic does to logging where Optuna makes a database: it disables the loggers of others."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    known = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    enabled = [one for one in known if not one.disabled]
    try:
        yield
    finally:
        for one in enabled:
            one.disabled = False
        root.handlers[:], root.level = before


def distributions(recipe: Any, axes: dict[str, Axis]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return the axes as Optuna knows them."""
    found: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, axis in axes.items():
        if isinstance(axis, Choice):
            found[name] = CategoricalDistribution([text_of(value) for value in axis.values])
        elif is_whole(recipe, name):
            low, high, step = (cast(int, number) for number in (axis.low, axis.high, axis.step or 1))
            found[name] = IntDistribution(low, high, log=axis.log, step=step)
        else:
            found[name] = FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
    return found


def settings_of(recipe: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the parameters of a trial stand for."""
    return {name: value_of(recipe, name, value) for name, value in params.items()}


def prepare_study(study: optuna.Study, recipe: Any, axes: dict[str, Axis]) -> None:
    """Let the recipe's own settings be the first trial, and take up again what was broken off.

    Nobody else may work on the study: what still counts as running was killed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's, of a setting that lies outside of its axis
        if not study.trials:
            own = {name: getattr(recipe, name) for name in axes}
            choices = {name: axis for name, axis in axes.items() if isinstance(axis, Choice)}
            known = {
                name: text_of(value) if name in choices else value
                for name, value in own.items()
                if name not in choices or value in choices[name].values
            }
            study.enqueue_trial(known)
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
            if AGAIN not in trial.user_attrs:
                study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the trials that ended by themselves, in order: complete, pruned, or failed for a reason."""
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return [trial for trial in ended if trial.state != TrialState.FAIL or REASON in trial.user_attrs]


def run_trials(path: Path, budget: Budget, one: Callable[[int], None], *, jobs: int) -> None:
    """Call one(draw) for trial after trial until the budget is spent, so many jobs at a time.

    one runs a trial of the study in path and has told its end when it comes back; draw counts trials. What
    it raises ends the study once the trials under way have ended.
    """
    study = opened(path)
    drawn = len(finished(study))
    running: set[Future[None]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        while True:
            while len(running) < jobs and _left(study, budget, jobs, started=drawn):
                running.add(pool.submit(one, drawn))
                drawn += 1
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            _raise_first(done)


def _raise_first(done: set[Future[Any]]) -> None:
    for future in done:
        future.result()


def _left(study: optuna.Study, budget: Budget, jobs: int, *, started: int) -> bool:
    if budget.trials and started >= budget.trials:
        return False
    return not budget.minutes or seconds_of(study) / jobs < 60 * budget.minutes


def seconds_of(study: optuna.Study) -> float:
    """Return the seconds of all trials that ended by themselves, added up."""
    return sum(cast("timedelta", trial.duration).total_seconds() for trial in finished(study))


def best_trial(study: optuna.Study) -> optuna.trial.FrozenTrial:
    """Return the complete trial with the highest value, the first of equals; raise where there is none."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if not complete:
        reasons = [trial.user_attrs[REASON] for trial in finished(study) if REASON in trial.user_attrs]
        raise HeadstartError(
            f"study: none of {len(study.trials)} trials came to its end"
            + (f"; the last one failed: {reasons[-1]}" if reasons else "")
            + "; try a smaller space"
        )
    return max(complete, key=lambda trial: (trial.value, -trial.number))
