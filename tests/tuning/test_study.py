"""A study draws, stops, goes on after a kill as if nothing had happened, and counts what ended by itself."""

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
    AGAIN,
    ASIDE,
    REASON,
    Budget,
    best_trial,
    distributions,
    finished,
    note_of,
    opened,
    prepare_study,
    put_aside_if_damaged,
    run_trials,
    seal,
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
    """What ends a process at once."""


def quality(params: dict) -> float:
    """Best at a learning rate of 0.01 with two filter numbers."""
    return -abs(math.log10(params["learning_rate"]) + 2) - 0.1 * (params["filters"] == "8")


def trainer(path, *, kill_at: int | None = None, seed: int = 0):
    """Return what runs a trial: its quality is its value; the trial numbered kill_at never ends."""

    def one(draw: int) -> None:
        study = opened(path, draw, seed)
        trial = study.ask(distributions(LESSON, AXES))
        if trial.number == kill_at:
            raise Killed
        study.tell(trial, quality(trial.params))
        seal(path)

    return one


def drawn(path) -> list[dict]:
    return [trial.params for trial in finished(opened(path))]


def searched(path, trials: int, **options) -> list[dict]:
    prepare_study(opened(path), LESSON, AXES)
    run_trials(path, Budget(trials), trainer(path, **options), jobs=1)
    return drawn(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.log"


@pytest.fixture(autouse=True)
def learns_early(monkeypatch):
    """The sampler learns from the third trial on, so that few trials do."""
    monkeypatch.setattr("pipeline.tuning.study.STARTUP_TRIALS", 3)


def test_the_first_trial_is_the_recipe_as_far_as_the_space_has_it(path):
    first = searched(path, 1)[0]
    assert first["learning_rate"] == LESSON.learning_rate
    assert first["batch_size"] == LESSON.batch_size
    assert first["filters"] in ("8", "8,16")


def test_the_same_seed_draws_the_same_trials_and_another_seed_others(tmp_path):
    one, same, other = (
        searched(tmp_path / f"{name}.log", 5, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == same
    assert one[0] == other[0] | {"filters": one[0]["filters"]}
    assert one[1:] != other[1:]


@pytest.mark.slow
def test_the_sampler_learns_what_is_good(path):
    searched(path, 30)
    assert abs(math.log10(best_trial(opened(path)).params["learning_rate"]) + 2) < 0.15


@pytest.mark.parametrize(
    "kill_at", [pytest.param(0, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 4]
)
def test_a_study_that_was_killed_draws_what_an_undisturbed_one_draws(tmp_path, kill_at):
    undisturbed = searched(tmp_path / "whole.log", 6)
    path = tmp_path / "killed.log"
    with pytest.raises(Killed):
        searched(path, 6, kill_at=kill_at)
    assert len(drawn(path)) == kill_at
    assert searched(path, 6) == undisturbed
    assert [trial.number for trial in opened(path).trials if AGAIN in trial.user_attrs] == [kill_at + 1]


def test_a_trial_that_was_broken_off_twice_is_not_taken_up_a_third_time(path):
    for number in (1, 2):
        with pytest.raises(Killed):
            searched(path, 3, kill_at=number)
    searched(path, 3)
    assert len([trial for trial in opened(path).trials if AGAIN in trial.user_attrs]) == 1
    assert len(drawn(path)) == 3


def test_more_trials_go_on_with_those_that_are_there(path):
    first = searched(path, 2)
    assert searched(path, 4)[:2] == first
    assert len(searched(path, 3)) == 4


def test_a_study_without_a_limit_of_trials_ends_by_its_minutes(path, monkeypatch):
    monkeypatch.setattr("pipeline.tuning.study.seconds_of", lambda study: 13.0 * len(finished(study)))
    prepare_study(opened(path), LESSON, AXES)
    run_trials(path, Budget(0, minutes=1), trainer(path), jobs=1)
    assert len(drawn(path)) == 5


def test_two_jobs_run_at_the_same_time_and_make_no_trial_too_many(path):
    together = threading.Barrier(2, timeout=30)
    lock = threading.Lock()

    def one(draw: int) -> None:
        together.wait()
        with lock:
            trainer(path)(draw)

    prepare_study(opened(path), LESSON, AXES)
    run_trials(path, Budget(4), one, jobs=2)
    assert len(drawn(path)) == 4


def test_what_a_trial_raises_ends_the_study_and_keeps_what_is_done(path):
    def one(draw: int) -> None:
        if draw == 2:
            raise HeadstartError("the disk is full")
        trainer(path)(draw)

    prepare_study(opened(path), LESSON, AXES)
    with pytest.raises(HeadstartError, match="disk is full"):
        run_trials(path, Budget(6), one, jobs=1)
    assert len(drawn(path)) == 2


def test_a_trial_that_failed_for_a_reason_counts_and_is_never_the_best(path):
    study = opened(path)
    trial = study.ask(distributions(LESSON, AXES))
    trial.set_user_attr(REASON, "the loss is nan")
    study.tell(trial, state=TrialState.FAIL)
    assert len(finished(study)) == 1
    with pytest.raises(HeadstartError, match="none of 1 trials came to its end; .* the loss is nan"):
        best_trial(study)


def test_parameters_become_settings_in_their_own_types(path):
    found = settings_of(LESSON, {"learning_rate": 0.01, "batch_size": 64, "filters": "8,16"})
    assert found == {"learning_rate": 0.01, "batch_size": 64, "filters": (8, 16)}


def test_making_a_study_leaves_the_loggers_of_others_alone(tmp_path):
    ours, root = logging.getLogger("pipeline.somewhere"), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    opened(tmp_path / "study.log", 0, 0)
    assert not ours.disabled
    assert (root.handlers, root.level) == (handlers, level)


def told(path) -> list:
    """Return all that a search reads from its study."""
    study = opened(path)
    facts = [
        (one.number, one.params, one.value, one.state, one.intermediate_values) for one in finished(study)
    ]
    return [facts, study.user_attrs]


def test_whole_study_is_sound_and_stays_where_it_is(path):
    searched(path, 3)
    study = opened(path)
    for state in (TrialState.PRUNED, TrialState.FAIL):
        trial = study.ask(distributions(LESSON, AXES))
        trial.report(0.5, 1)
        trial.set_user_attr(REASON, "for a test")
        study.tell(trial, state=state)
    opened(path).set_user_attr("confirmed:1", 0.5)
    seal(path)
    assert why_damaged(path) is None
    put_aside_if_damaged(path)
    assert path.is_file() and not path.with_name(ASIDE).exists()


def test_fault_13_every_flipped_bit_of_a_study_is_found(path, flip_byte):
    searched(path, 5)
    opened(path).set_user_attr("confirmed:1", 0.5)
    seal(path)
    for file in (path, note_of(path)):
        whole = file.read_bytes()
        for position in random.Random(0).sample(range(len(whole)), 24):
            flip_byte(file, position, mask=1 << position % 8)
            assert why_damaged(path), (file.name, position)
            file.write_bytes(whole)
    assert why_damaged(path) is None


def test_fault_13_changed_number_in_a_study_is_found_and_the_search_begins_anew(path, caplog):
    searched(path, 5)
    changed = path.read_bytes().replace(b'"values":[-', b'"values":[ ', 1)
    path.write_bytes(changed)
    with caplog.at_level(logging.WARNING):
        put_aside_if_damaged(path)
    assert "bytes are not what they were when a trial ended" in caplog.text
    assert path.with_name(ASIDE).read_bytes() == changed
    assert not path.exists()
    assert len(searched(path, 3)) == 3


def test_fault_13_study_without_its_seal_is_not_trusted(path):
    searched(path, 1)
    note_of(path).unlink()
    assert "expected a seal, found none" in why_damaged(path)


def test_what_a_killed_trial_wrote_behind_the_seal_stays_and_a_torn_line_goes(path):
    searched(path, 3)
    trial = opened(path).ask(distributions(LESSON, AXES))
    trial.report(0.5, 1)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":9,"worker')
    lock = path.with_name(f"{path.name}.lock")  # Optuna's, of a process that was killed as it wrote
    lock.touch()
    put_aside_if_damaged(path)
    assert path.read_bytes().startswith(whole)
    assert b'"worker{' not in path.read_bytes()
    assert not lock.exists()
    assert opened(path).trials[3].intermediate_values == {1: 0.5}
    assert len(searched(path, 5)) == 5
