"""After SIGKILL at any moment, a training resumes after its last completed epoch with the same result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from killed_training import Kill, train_in_child
from small_specs import spec_of

from pipeline.recipes.schemes import find_scheme
from pipeline.runs.result import HISTORY, PREDICTIONS, read_run
from pipeline.runs.train import EVENTS, RUN_FILES
from pipeline.storage.layout import CHECKPOINT, MODEL, RECIPE
from pipeline.storage.publishing import (
    MANIFEST,
    is_orphaned,
    is_scratch,
    read_manifest,
    why_incomplete,
)

EPOCHS = 4
RECIPES = {  # no epoch ends with an averaging step, so slow and fast weights differ
    "from-scratch:lesson": {
        **{"conv_blocks": "conv - batch norm - maxpool 4 - dropout", "filters": [4], "units": [8]},
        **{"epochs": EPOCHS, "batch_size": 10, "optimizer": "sgd", "learning_rate": 0.1},
        **{"lr_schedule": "triangle", "averaging": "lookahead"},
    },
    "fine-tune:block5": {  # without normalization, features of random weights kill all units of the top
        **{"dense_blocks": "dense - batch norm - dropout", "units": [8], "top_epochs": 2},
        **{"epochs": EPOCHS, "batch_size": 20},
    },
}
SCRATCH, FINE_TUNE = RECIPES
TOP = [f"top, epoch {number}/2" for number in (1, 2)]
BLOCKS = [f"blocks, epoch {number}/{EPOCHS}" for number in range(1, EPOCHS + 1)]
SAVED = (CHECKPOINT, EVENTS)


@dataclass(frozen=True)
class Case:
    """A kill, the complete files that it leaves, and how many epochs the next attempt trains.

    scratch tells whether the kill leaves a scratch file. Checkpoints are counted from the blocks stage.
    """

    kill: Kill
    files: tuple[str, ...]
    epochs: int = 0
    scratch: bool = False


CASES = {
    "in the top": Case(Kill("step", TOP[1]), SAVED, epochs=1 + EPOCHS),
    "in an epoch": Case(Kill("step", BLOCKS[2], 2), SAVED, epochs=2),
    "in the first checkpoint": Case(Kill("half", CHECKPOINT), (), epochs=EPOCHS, scratch=True),
    "in the second checkpoint": Case(Kill("half", CHECKPOINT, 2), SAVED, epochs=3, scratch=True),
    "before the second checkpoint": Case(Kill("before", CHECKPOINT, 2), SAVED, epochs=3, scratch=True),
    "after the second checkpoint": Case(Kill("after", CHECKPOINT, 2), SAVED, epochs=2),
    "in the last checkpoint": Case(Kill("half", CHECKPOINT, EPOCHS), SAVED, epochs=1, scratch=True),
    "before the first file": Case(Kill("before", MODEL), SAVED, scratch=True),
    "after the model": Case(Kill("after", MODEL), (*SAVED, MODEL)),
    "after the history": Case(Kill("after", HISTORY), (*SAVED, MODEL, HISTORY)),
    "after the predictions": Case(Kill("after", PREDICTIONS), (*SAVED, MODEL, HISTORY, PREDICTIONS)),
    "after the recipe": Case(Kill("after", RECIPE), (*SAVED, MODEL, HISTORY, PREDICTIONS, RECIPE)),
    "before the manifest": Case(Kill("before", MANIFEST), (*SAVED, *RUN_FILES), scratch=True),
    "after the manifest": Case(Kill("after", MANIFEST), (*SAVED, *RUN_FILES, MANIFEST)),
}
KILLS = {
    SCRATCH: [name for name in CASES if name != "in the top"],
    FINE_TUNE: [
        *("in the top", "in an epoch", "in the second checkpoint", "after the second checkpoint"),
        *("after the predictions", "before the manifest", "after the manifest"),
    ],
}


@pytest.fixture
def arguments_of(request, digits) -> Callable[[str], dict]:
    """Return a function that returns the arguments of train_run for a recipe, except the folder."""

    def arguments(text: str) -> dict:
        needs = [name for name in ("weights", "features") if name in find_scheme(text)[0].needs]
        inputs = {name: str(request.getfixturevalue(name)) for name in needs}
        return {"spec": spec_of(text, RECIPES[text]).as_json(), "inputs": {"dataset": str(digits), **inputs}}

    return arguments


def names_in(folder: Path) -> set[str]:
    """Return the names in a folder, none if it does not exist."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def assert_finished(folder: Path, fingerprint: dict) -> None:
    """Fail unless a folder has exactly the files of a run, and they match its manifest."""
    assert names_in(folder) == {*RUN_FILES, MANIFEST}
    assert why_incomplete(folder, fingerprint) is None
    for name in RUN_FILES:
        read_manifest(folder).verified(name)


@pytest.mark.slow
@pytest.mark.parametrize(("text", "name"), [(text, name) for text, names in KILLS.items() for name in names])
def test_fault_23_a_killed_training_resumes_after_its_last_completed_epoch(
    text, name, arguments_of, tmp_path
):
    case, arguments = CASES[name], arguments_of(text)
    finished, killed = tmp_path / "finished", tmp_path / "killed"
    fingerprint = arguments["spec"]["fingerprint"]

    kill = case.kill
    if text == FINE_TUNE and kill.what == CHECKPOINT:
        kill = replace(kill, count=kill.count + len(TOP))
    train_in_child({**arguments, "folder": str(finished)}, {**arguments, "folder": str(killed)}, kill=kill)
    scratch = [path for path in killed.glob(".*") if is_scratch(path)]
    assert [is_orphaned(path) for path in scratch] == [True] * case.scratch
    assert names_in(killed) == {*case.files, *(path.name for path in scratch)}
    assert (why_incomplete(killed, fingerprint) is None) == (MANIFEST in case.files)

    epochs = TOP + BLOCKS if text == FINE_TUNE else BLOCKS
    assert train_in_child({**arguments, "folder": str(killed)}) == epochs[len(epochs) - case.epochs :]
    assert_finished(killed, fingerprint)
    assert (killed / PREDICTIONS).read_bytes() == (finished / PREDICTIONS).read_bytes()
    runs = [read_run(folder) for folder in (killed, finished)]
    assert runs[0].history.drop(columns="seconds").equals(runs[1].history.drop(columns="seconds"))
    probabilities = runs[0].split("test").probabilities
    assert probabilities.std(axis=0).max() > 0.01  # constant predictions would prove nothing


@pytest.mark.slow
def test_a_retrained_run_is_incomplete_until_all_its_files_are_replaced(arguments_of, tmp_path):
    arguments, folder = {**arguments_of(SCRATCH), "folder": str(tmp_path / "run")}, tmp_path / "run"
    fingerprint = arguments["spec"]["fingerprint"]
    train_in_child(arguments)
    (folder / MODEL).unlink()
    train_in_child(arguments, kill=Kill("after", MODEL))
    assert why_incomplete(folder, fingerprint) is not None
    train_in_child(arguments)
    assert_finished(folder, fingerprint)
