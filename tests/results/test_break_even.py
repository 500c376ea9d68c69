"""What a head costs with and without a cache is computed from rates; no start-up is counted or multiplied."""

from __future__ import annotations

import json

import pytest
from small_runs import finish, write_run

from pipeline.results.break_even import BreakEven, break_even_of, once_and_each
from pipeline.runs.result import read_run


def test_in_the_loop_the_network_runs_in_every_epoch_of_each_head():
    costs = BreakEven(extraction=30.0, epoch=20.0, epochs=5, head=2.0)
    assert costs.in_the_loop(3) == 3 * (5 * 20 + 2)


@pytest.mark.parametrize(
    ("extraction", "epoch", "first"), [(30.0, 20.0, 2), (10.0, 20.0, 1), (40.0, 20.0, 3)]
)
def test_the_cache_pays_off_in_the_epoch_in_which_the_loop_becomes_more_expensive(extraction, epoch, first):
    costs = BreakEven(extraction, epoch, epochs=5, head=0.0)
    assert costs.epochs_until_cheaper == first
    assert (first - 1) * epoch <= extraction < first * epoch


def with_costs(folder, **changes):
    path = folder / "costs.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return read_run(finish(folder))


def test_a_run_counts_the_images_of_the_cache_once_and_the_training_images_in_every_epoch(tmp_path):
    folder = write_run(tmp_path / "run", settings={"views": ["identity", "hflip"]}, stages={"train": 7})
    run = with_costs(folder, extract_images=2000, extract_image_seconds=0.02, stages={"start": 5.0})
    costs = break_even_of(run)
    assert costs.extraction == pytest.approx(2000 * 0.02)  # both views
    assert costs.epoch == pytest.approx(1600 * 0.02 / 2)  # one view of each training image
    assert (costs.epochs, costs.head) == (7, pytest.approx(12.0 - 5.0))


def test_a_sweep_counts_as_a_cost_of_each_training_and_extraction_as_a_cost_paid_once(tmp_path):
    changes = {
        "extract_images": 2000,
        "extract_image_seconds": 0.02,
        "tune_seconds": 9.0,
        "stages": {"start": 5.0},
    }
    run = with_costs(write_run(tmp_path / "run", total_seconds=30.0), **changes)
    assert once_and_each(run) == (pytest.approx(40.0), pytest.approx(12.0 - 5.0 + 9.0))


def test_the_start_of_the_process_that_extracted_changes_nothing(tmp_path):
    runs = [
        with_costs(write_run(tmp_path / str(seconds)), extract_seconds=seconds) for seconds in (10.0, 18.0)
    ]
    assert break_even_of(runs[0]) == break_even_of(runs[1])


@pytest.mark.parametrize(
    "changes", [{"extract_image_seconds": 0.0}, {"stages": {}, "extract_image_seconds": None}]
)
def test_a_run_without_a_rate_has_no_break_even(tmp_path, changes):
    assert break_even_of(with_costs(write_run(tmp_path / "run"), **changes)) is None
