"""An Optuna study on disk: resumable, one process per trial, with a check for damage.

Optuna appends everything to a log. The study's seed and the number of finished trials seed the sampler, so a
killed study resumes with the same samples. A seal file beside the log holds its length and digest when the
last trial ended; anything after that length comes from interrupted trials.
"""

import hashlib
import logging
import os
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from pipeline.errors import HeadstartError
from pipeline.recipes.settings import fields_of, kind_name, parse
from pipeline.recipes.space import Axis, text_of
from pipeline.storage.publishing import claimed, publish_sealed, read_sealed

STUDY_LOG, DAMAGED_LOG, STUDY_NAME = "study.log", "damaged-study.log", "headstart"
STARTUP_TRIALS = 8  # sampled at random before the sampler models the results
PRUNING_TRIALS, PRUNING_EPOCHS = 5, 1  # completed trials, and epochs of a trial, before pruning starts
FAILURE_REASON, RETRY_OF = "reason", "again"  # attributes of a trial; RETRY_OF: an interrupted trial

logger = logging.getLogger(__name__)


def open_study(path: Path, draw: int = 0, seed: int = 0) -> optuna.Study:
    """Open the study in a file, or create it; draw and seed determine what it samples next."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # about constant_liar
        sampler = optuna.samplers.TPESampler(
            seed=(1_000_003 * seed + draw) % 2**32, n_startup_trials=STARTUP_TRIALS, constant_liar=True
        )
    log = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
    return optuna.create_study(
        study_name=STUDY_NAME,
        storage=optuna.storages.JournalStorage(log),
        load_if_exists=True,
        direction="maximize",
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(PRUNING_TRIALS, n_warmup_steps=PRUNING_EPOCHS),
    )


def seal_path(path: Path) -> Path:
    """Return the path of a study log's seal."""
    return path.with_suffix(".seal.json")


def seal_study(path: Path) -> None:
    """Write the seal for a study log's current content."""
    with claimed(path.with_name(f".{path.name}.lock")):  # so that an older seal never replaces a newer one
        publish_sealed(seal_path(path), _length_and_digest(path.read_bytes()))


def rename_if_damaged(path: Path) -> None:
    """Rename a damaged study log and warn, so that the search starts over.

    No other process may use the study: this cuts off an incomplete last line and removes a leftover lock.
    """
    if not path.is_file():
        return
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # Optuna's
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    if why := why_damaged(path):
        target = path.with_name(DAMAGED_LOG)
        path.replace(target)
        seal_path(path).unlink(missing_ok=True)
        logger.warning("%s is damaged (%s); renamed it to %s; the search starts over", path, why, target.name)


def why_damaged(path: Path) -> str | None:
    """Return why a study's log is damaged, or None if it is not."""
    try:
        stored = read_sealed(seal_path(path), "seal")
        if _length_and_digest(path.read_bytes()[: stored["bytes"]]) != stored:
            return f"its first {stored['bytes']} bytes changed after the last trial ended"
        open_study(path)
    except Exception as problem:  # Optuna raises errors of any type for a line that it cannot parse
        return str(problem).splitlines()[0] or type(problem).__name__
    return None


def _length_and_digest(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def distributions(recipe: Any, axes: dict[str, Axis]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return the axes as Optuna distributions."""
    result: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, axis in axes.items():
        if isinstance(axis, tuple):
            result[name] = CategoricalDistribution([text_of(value) for value in axis])
        elif kind_name(fields_of(recipe)[name]) == "int":
            low, high, step = (cast(int, number) for number in (axis.low, axis.high, axis.step or 1))
            result[name] = IntDistribution(low, high, log=axis.log, step=step)
        else:
            result[name] = FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
    return result


def settings_of(recipe: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a trial as settings; values of a list are sampled as text."""
    fields = fields_of(recipe)
    return {n: parse(fields[n], value) if isinstance(value, str) else value for n, value in params.items()}


def prepare_study(study: optuna.Study, recipe: Any, axes: dict[str, Axis]) -> None:
    """Queue the recipe's own settings as the first trial, and interrupted trials for a retry.

    No other process may use the study: trials that are still marked as running were killed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from Optuna, about a setting outside its axis
        if not study.trials:
            own = {name: getattr(recipe, name) for name in axes}
            choices = {name: axis for name, axis in axes.items() if isinstance(axis, tuple)}
            listed = {name: text_of(own[name]) for name, axis in choices.items() if own[name] in axis}
            study.enqueue_trial({name: own[name] for name in axes if name not in choices} | listed)
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
            if RETRY_OF not in trial.user_attrs:
                study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})


def finished_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the trials that were not interrupted, in order: completed, pruned, or failed with a reason."""
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return [trial for trial in ended if trial.state != TrialState.FAIL or FAILURE_REASON in trial.user_attrs]


def run_trials(path: Path, run_one: Callable[[int], None], *, trials: int, minutes: float, jobs: int) -> None:
    """Call run_one(draw), `jobs` at a time, until there are so many trials or they took so many minutes.

    0 means no limit; draw is a trial's index.
    run_one must run one trial of the study in path and record its end. If it raises, no new trials start, and
    the exception propagates once the running trials have ended.
    """
    study = open_study(path)
    started = len(finished_trials(study))
    running: set[Future[None]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        while True:
            spent = minutes and seconds_of(study) / jobs >= 60 * minutes
            while len(running) < jobs and not spent and (started < trials or not trials):
                running.add(pool.submit(run_one, started))
                started += 1
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()  # reraises the trial's exception


def seconds_of(study: optuna.Study) -> float:
    """Return the total seconds of all finished trials."""
    return sum(cast("timedelta", trial.duration).total_seconds() for trial in finished_trials(study))


def best_trial(study: optuna.Study) -> optuna.trial.FrozenTrial:
    """Return the completed trial with the highest value, the first of ties; raise if no trial completed."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if not complete:
        attributes = [trial.user_attrs for trial in finished_trials(study)]
        reasons = [each[FAILURE_REASON] for each in attributes if FAILURE_REASON in each]
        raise HeadstartError(
            f"study: expected a completed trial, but none of {len(study.trials)} completed"
            + (f"; the last failure: {reasons[-1]}" if reasons else "")
            + "; try a smaller space"
        )
    return max(complete, key=lambda trial: (trial.value, -trial.number))
