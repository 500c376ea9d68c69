"""A study samples, stops at its budget, resumes after a kill with the same result, and detects damage."""

from __future__ import annotations

import logging
import math
import random
import threading

import pytest
from optuna.trial import TrialState

from pipeline.errors import HeadstartError
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.space import checked_axes
from pipeline.tuning.study import (
    DAMAGED_LOG,
    FAILURE_REASON,
    RETRY_OF,
    best_trial,
    distributions,
    finished_trials,
    open_study,
    prepare_study,
    rename_if_damaged,
    run_trials,
    seal_path,
    seal_study,
    settings_of,
    why_damaged,
)

LESSON = SCRATCH_RECIPES["lesson"]
SPACE = {
    **dict.fromkeys(LESSON.space, ()),
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "batch_size": {"low": 32, "high": 256, "step": 32},
    "filters": ["8", "8,16"],
}
AXES = checked_axes(LESSON, SPACE)


class Killed(BaseException):
    """Simulates a kill of the process."""


def quality(params: dict) -> float:
    """Return a score that is highest at a learning rate of 0.01 with two filter counts."""
    return -abs(math.log10(params["learning_rate"]) + 2) - 0.1 * (params["filters"] == "8")


def trainer(path, *, kill_at: int | None = None, seed: int = 0):
    """Return a function that runs a trial with its quality as value; trial number kill_at is killed."""

    def run_one(draw: int) -> None:
        study = open_study(path, draw, seed)
        trial = study.ask(distributions(LESSON, AXES))
        if trial.number == kill_at:
            raise Killed
        study.tell(trial, quality(trial.params))
        seal_study(path)

    return run_one


def trial_params(path) -> list[dict]:
    return [trial.params for trial in finished_trials(open_study(path))]


def search(path, trials: int, **options) -> list[dict]:
    prepare_study(open_study(path), LESSON, AXES)
    run_trials(path, trainer(path, **options), trials=trials, minutes=0, jobs=1)
    return trial_params(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.log"


@pytest.fixture(autouse=True)
def early_sampler(monkeypatch):
    """The sampler uses results from the third trial on, so that tests need few trials."""
    monkeypatch.setattr("pipeline.tuning.study.STARTUP_TRIALS", 3)


def test_the_first_trial_has_the_recipes_settings_where_the_space_contains_them(path):
    first = search(path, 1)[0]
    assert first["learning_rate"] == LESSON.learning_rate
    assert first["batch_size"] == LESSON.batch_size
    assert first["filters"] in ("8", "8,16")


def test_the_same_seed_samples_the_same_trials_and_another_seed_others(tmp_path):
    first, same, other = (
        search(tmp_path / f"{name}.log", 5, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == same
    assert first[0] == other[0] | {"filters": first[0]["filters"]}
    assert first[1:] != other[1:]


@pytest.mark.slow
def test_the_sampler_finds_good_settings(path):
    search(path, 30)
    assert abs(math.log10(best_trial(open_study(path)).params["learning_rate"]) + 2) < 0.15


@pytest.mark.parametrize(
    "kill_at", [pytest.param(0, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 4]
)
def test_a_killed_study_resumes_with_the_same_samples(tmp_path, kill_at):
    expected = search(tmp_path / "expected.log", 6)
    path = tmp_path / "killed.log"
    with pytest.raises(Killed):
        search(path, 6, kill_at=kill_at)
    assert len(trial_params(path)) == kill_at
    assert search(path, 6) == expected
    trials = open_study(path).trials
    assert [trial.number for trial in trials if RETRY_OF in trial.user_attrs] == [kill_at + 1]


def test_a_trial_that_was_killed_twice_is_not_tried_a_third_time(path):
    for number in (1, 2):
        with pytest.raises(Killed):
            search(path, 3, kill_at=number)
    search(path, 3)
    assert len([trial for trial in open_study(path).trials if RETRY_OF in trial.user_attrs]) == 1
    assert len(trial_params(path)) == 3


def test_a_larger_budget_adds_trials_to_the_study(path):
    first = search(path, 2)
    assert search(path, 4)[:2] == first
    assert len(search(path, 3)) == 4


def test_a_study_without_a_trial_limit_ends_after_its_minutes(path, monkeypatch):
    monkeypatch.setattr("pipeline.tuning.study.seconds_of", lambda study: 13.0 * len(finished_trials(study)))
    prepare_study(open_study(path), LESSON, AXES)
    run_trials(path, trainer(path), trials=0, minutes=1, jobs=1)
    assert len(trial_params(path)) == 5


def test_two_jobs_run_at_the_same_time_and_do_not_exceed_the_budget(path):
    barrier = threading.Barrier(2, timeout=30)
    lock = threading.Lock()

    def run_one(draw: int) -> None:
        barrier.wait()
        with lock:
            trainer(path)(draw)

    prepare_study(open_study(path), LESSON, AXES)
    run_trials(path, run_one, trials=4, minutes=0, jobs=2)
    assert len(trial_params(path)) == 4


def test_an_exception_in_a_trial_ends_the_search_and_keeps_the_finished_trials(path):
    def run_one(draw: int) -> None:
        if draw == 2:
            raise HeadstartError("the disk is full")
        trainer(path)(draw)

    prepare_study(open_study(path), LESSON, AXES)
    with pytest.raises(HeadstartError, match="disk is full"):
        run_trials(path, run_one, trials=6, minutes=0, jobs=1)
    assert len(trial_params(path)) == 2


def test_a_failed_trial_counts_but_is_never_the_best(path):
    study = open_study(path)
    trial = study.ask(distributions(LESSON, AXES))
    trial.set_user_attr(FAILURE_REASON, "the loss is nan")
    study.tell(trial, state=TrialState.FAIL)
    assert len(finished_trials(study)) == 1
    with pytest.raises(HeadstartError, match="but none of 1 completed; the last failure: the loss is nan"):
        best_trial(study)


def test_parameters_become_settings_of_the_right_type(path):
    settings = settings_of(LESSON, {"learning_rate": 0.01, "batch_size": 64, "filters": "8,16"})
    assert settings == {"learning_rate": 0.01, "batch_size": 64, "filters": (8, 16)}


def test_creating_a_study_does_not_change_other_loggers(tmp_path):
    other, root = logging.getLogger("pipeline.somewhere"), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    open_study(tmp_path / "study.log", 0, 0)
    assert not other.disabled
    assert (root.handlers, root.level) == (handlers, level)


def test_an_undamaged_study_is_not_renamed(path):
    search(path, 3)
    study = open_study(path)
    for state in (TrialState.PRUNED, TrialState.FAIL):
        trial = study.ask(distributions(LESSON, AXES))
        trial.report(0.5, 1)
        trial.set_user_attr(FAILURE_REASON, "for a test")
        study.tell(trial, state=state)
    open_study(path).set_user_attr("confirmed:1", 0.5)
    seal_study(path)
    assert why_damaged(path) is None
    rename_if_damaged(path)
    assert path.is_file() and not path.with_name(DAMAGED_LOG).exists()


def test_fault_13_every_flipped_bit_of_a_study_is_detected(path, flip_byte):
    search(path, 5)
    open_study(path).set_user_attr("confirmed:1", 0.5)
    seal_study(path)
    for file in (path, seal_path(path)):
        intact = file.read_bytes()
        for position in random.Random(0).sample(range(len(intact)), 24):
            flip_byte(file, position, mask=1 << position % 8)
            assert why_damaged(path), (file.name, position)
            file.write_bytes(intact)
    assert why_damaged(path) is None


def test_fault_13_changed_number_in_a_study_is_detected_and_the_search_starts_over(path, caplog):
    search(path, 5)
    changed = path.read_bytes().replace(b'"values":[-', b'"values":[ ', 1)
    path.write_bytes(changed)
    with caplog.at_level(logging.WARNING):
        rename_if_damaged(path)
    assert "bytes changed after the last trial ended" in caplog.text
    assert path.with_name(DAMAGED_LOG).read_bytes() == changed
    assert not path.exists()
    assert len(search(path, 3)) == 3


def test_fault_13_study_without_its_seal_is_not_trusted(path):
    search(path, 1)
    seal_path(path).unlink()
    assert "file is missing, expected a seal" in why_damaged(path)


def test_what_a_killed_trial_wrote_after_the_seal_is_kept_but_an_incomplete_line_is_removed(path):
    search(path, 3)
    trial = open_study(path).ask(distributions(LESSON, AXES))
    trial.report(0.5, 1)
    intact = path.read_bytes()
    path.write_bytes(intact + b'{"op_code":9,"worker')
    lock = path.with_name(f"{path.name}.lock")  # left by Optuna in a process that was killed while writing
    lock.touch()
    rename_if_damaged(path)
    assert path.read_bytes().startswith(intact)
    assert b'"worker{' not in path.read_bytes()
    assert not lock.exists()
    assert open_study(path).trials[3].intermediate_values == {1: 0.5}
    assert len(search(path, 5)) == 5


def test_a_study_stays_in_its_folder_whatever_the_folders_name(tmp_path):
    path = tmp_path / "a?b#c%20&;'\udce9\n" / "study.log"
    path.parent.mkdir()
    study = open_study(path)
    study.tell(study.ask(), 0.5)
    seal_study(path)
    assert why_damaged(path) is None
    assert [entry.name for entry in tmp_path.iterdir()] == [path.parent.name]
    assert best_trial(open_study(path)).value == 0.5
