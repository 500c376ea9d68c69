"""A study on disk: trials that are asked for one after another, each in its own process.

Optuna appends everything to a log. A trial's draw follows from the study's seed and the number of finished
trials, so a killed study resumes with the same draws. A note beside the log holds its length and digest when
a trial last ended: a damaged log would choose by wrong numbers. What follows that length comes from trials
that were interrupted.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from pipeline.errors import HeadstartError
from pipeline.recipes.space import Axis, Choice, is_whole, text_of, value_of
from pipeline.storage.publishing import claimed, publish_sealed, read_sealed

FILE, ASIDE, NAME = "study.log", "damaged-study.log", "headstart"
STARTUP_TRIALS = 8  # drawn at random before the sampler learns from them
PRUNING_TRIALS, PRUNING_EPOCHS = 5, 1  # whole curves, and epochs of a curve, before anything is pruned
REASON, AGAIN = "reason", "again"  # of a trial: why it failed; that it repeats one that was broken off

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """When a study is over: after so many trials or minutes of them, 0 for no limit of that kind."""

    trials: int
    minutes: float = 0.0


def opened(path: Path, draw: int = 0, seed: int = 0) -> optuna.Study:
    """Return the study in a file, made where there is none; draw and seed decide what it samples next."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of constant_liar
        sampler = optuna.samplers.TPESampler(
            seed=(1_000_003 * seed + draw) % 2**32, n_startup_trials=STARTUP_TRIALS, constant_liar=True
        )
    log = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
    return optuna.create_study(
        study_name=NAME,
        storage=optuna.storages.JournalStorage(log),
        load_if_exists=True,
        direction="maximize",
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(PRUNING_TRIALS, n_warmup_steps=PRUNING_EPOCHS),
    )


def note_of(path: Path) -> Path:
    """Return the path of the note that seals a study's log."""
    return path.with_suffix(".seal.json")


def seal(path: Path) -> None:
    """Seal a study's log as it is now."""
    with claimed(path.with_name(f".{path.name}.lock")):  # an older seal would leave more of it open
        publish_sealed(note_of(path), _described(path.read_bytes()))


def put_aside_if_damaged(path: Path) -> None:
    """Rename a study's log that is not as it was left, and say so; the search begins anew then.

    Nobody else may work on the study: a line that was not written to its end is cut off, and a lock released.
    """
    if not path.is_file():
        return
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # Optuna's
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    if why := why_damaged(path):
        target = path.with_name(ASIDE)
        path.replace(target)
        note_of(path).unlink(missing_ok=True)
        logger.warning("%s is damaged (%s); it is now %s, and the search begins anew", path, why, target.name)


def why_damaged(path: Path) -> str | None:
    """Return in words what is wrong with a study's log, or None."""
    try:
        note = read_sealed(note_of(path), "seal")
        if _described(path.read_bytes()[: note["bytes"]]) != note:
            return f"its first {note['bytes']} bytes are not what they were when a trial ended"
        opened(path)
    except Exception as problem:  # Optuna raises whatever a line without sense leads to
        return str(problem).splitlines()[0] or type(problem).__name__
    return None


def _described(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


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
            known = {}
            for name, axis in axes.items():
                own = getattr(recipe, name)
                if not isinstance(axis, Choice):
                    known[name] = own
                elif own in axis.values:
                    known[name] = text_of(own)
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
            spent = bool(budget.minutes) and seconds_of(study) / jobs >= 60 * budget.minutes
            while len(running) < jobs and not spent and (drawn < budget.trials or not budget.trials):
                running.add(pool.submit(one, drawn))
                drawn += 1
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()  # raises what the trial raised


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
