"""What a study knows is sealed: SQLite has no checksums, and a damaged one would choose by wrong numbers.

Each trial that ends carries a digest of what it drew, reported and reached, and so does each training that
was run again. A study that is gone on with is checked first; a damaged one is put aside and begun anew.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.storage.fingerprint import digest_of_values
from pipeline.tuning.study import REASON, finished, opened

SEAL, VALUE = "seal", "value"
ASIDE = "damaged-study.db"
BESIDE = ("-journal", "-wal", "-shm")  # files that SQLite keeps beside a database

logger = logging.getLogger(__name__)


def tell(
    study: optuna.Study, trial: Trial, value: float | None = None, state: TrialState | None = None
) -> None:
    """End a trial with its value, or in a state without one, and seal it."""
    known = study.get_trials(deepcopy=False)[trial.number]
    trial.set_user_attr(SEAL, digest_of_values(_content(known, value, (state or TrialState.COMPLETE).name)))
    study.tell(trial, value, state=state)


def keep(study: optuna.Study, name: str, value: float) -> None:
    """Keep a number with the study under a name, and its seal."""
    study.set_user_attr(name, {VALUE: value, SEAL: digest_of_values([name, value])})


def kept(study: optuna.Study, name: str) -> float | None:
    """Return the number that is kept under a name, None where there is none."""
    found = study.user_attrs.get(name)
    return None if found is None else found[VALUE]


def put_aside_if_damaged(path: Path) -> None:
    """Rename a study's file that is not as it was left, and say so; the search begins anew then."""
    if not path.is_file() or (why := why_damaged(path)) is None:
        return
    target = path.with_name(ASIDE)
    path.replace(target)
    for ending in BESIDE:
        path.with_name(path.name + ending).unlink(missing_ok=True)
    logger.warning("%s is damaged (%s); it is now %s, and the search begins anew", path, why, target.name)


def why_damaged(path: Path) -> str | None:
    """Return in words what is wrong with a study's file, or None."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            said = database.execute("PRAGMA integrity_check").fetchone()[0]
        if said != "ok":
            return str(said).splitlines()[0]
        return _broken_seal(opened(path))
    except Exception as problem:  # SQLite, SQLAlchemy, Alembic and Optuna each have errors of their own
        return str(problem).splitlines()[0] or type(problem).__name__


def _broken_seal(study: optuna.Study) -> str | None:
    for trial in finished(study):
        # Optuna gives a pruned trial the last value that it reported.
        value = trial.value if trial.state == TrialState.COMPLETE else None
        content = _content(trial, value, trial.state.name)
        if trial.user_attrs.get(SEAL) != digest_of_values(content):
            return f"trial {trial.number} is not what it was when it ended"
    for name, found in study.user_attrs.items():
        if not isinstance(found, dict) or found.get(SEAL) != digest_of_values([name, found.get(VALUE)]):
            return f"{name} is not what it was when it was kept"
    return None


def _content(trial: FrozenTrial, value: float | None, state: str) -> list[Any]:
    reported = {str(step): number for step, number in trial.intermediate_values.items()}
    return [trial.number, trial.params, reported, trial.user_attrs.get(REASON), value, state]
