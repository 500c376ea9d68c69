"""Wherever SIGKILL ends a training, the next attempt goes on behind the last whole epoch to the same end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from killed_training import Kill, train_in_child
from small_specs import spec_of

from pipeline.recipes.schemes import find_scheme
from pipeline.runs.result import HISTORY, PREDICTIONS, read_run
from pipeline.runs.train import EVENTS, FILES
from pipeline.storage.layout import CHECKPOINT as CHECKPOINT
from pipeline.storage.layout import MODEL, RECIPE
from pipeline.storage.publishing import MANIFEST, is_left_behind, is_scratch, read_manifest, why_incomplete

EPOCHS = 4
RECIPES = {  # no epoch ends as slow and fast weights meet (see averaging), so that both matter
    "from-scratch:lesson": {
        **{"conv_blocks": "conv - batch norm - maxpool 4 - dropout", "filters": [4], "units": [8]},
        **{"epochs": EPOCHS, "batch_size": 10, "optimizer": "sgd", "learning_rate": 0.1},
        **{"lr_schedule": "triangle", "averaging": "lookahead"},
    },
    "fine-tune:block5": {  # without normalisation, features of random weights kill all units of the top
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
    """A kill, the files that are whole after it, and how many epochs the next attempt trains.

    scratch says whether the kill leaves a scratch file. Checkpoints are counted from the first of the blocks.
    """

    kill: Kill
    left: tuple[str, ...]
    again: int = 0
    scratch: bool = False


CASES = {
    "in the top": Case(Kill("step", TOP[1]), SAVED, again=1 + EPOCHS),
    "in an epoch": Case(Kill("step", BLOCKS[2], 2), SAVED, again=2),
    "in the first checkpoint": Case(Kill("half", CHECKPOINT), (), again=EPOCHS, scratch=True),
    "in the second checkpoint": Case(Kill("half", CHECKPOINT, 2), SAVED, again=3, scratch=True),
    "before the second checkpoint": Case(Kill("before", CHECKPOINT, 2), SAVED, again=3, scratch=True),
    "behind the second checkpoint": Case(Kill("behind", CHECKPOINT, 2), SAVED, again=2),
    "in the last checkpoint": Case(Kill("half", CHECKPOINT, EPOCHS), SAVED, again=1, scratch=True),
    "before the first file": Case(Kill("before", MODEL), SAVED, scratch=True),
    "behind the model": Case(Kill("behind", MODEL), (*SAVED, MODEL)),
    "behind the history": Case(Kill("behind", HISTORY), (*SAVED, MODEL, HISTORY)),
    "behind the predictions": Case(Kill("behind", PREDICTIONS), (*SAVED, MODEL, HISTORY, PREDICTIONS)),
    "behind the recipe": Case(Kill("behind", RECIPE), (*SAVED, MODEL, HISTORY, PREDICTIONS, RECIPE)),
    "before the manifest": Case(Kill("before", MANIFEST), (*SAVED, *FILES), scratch=True),
    "behind the manifest": Case(Kill("behind", MANIFEST), (*SAVED, *FILES, MANIFEST)),
}
KILLS = {
    SCRATCH: [name for name in CASES if name != "in the top"],
    FINE_TUNE: [
        *("in the top", "in an epoch", "in the second checkpoint", "behind the second checkpoint"),
        *("behind the predictions", "before the manifest", "behind the manifest"),
    ],
}
ALWAYS = (SCRATCH, "in the second checkpoint")


@pytest.fixture
def arguments_of(request, digits) -> Callable[[str], dict]:
    """Return a function that gives the arguments of train_run for a recipe, all but the folder."""

    def arguments(text: str) -> dict:
        needs = [name for name in ("weights", "features") if name in find_scheme(text)[0].needs]
        inputs = {name: str(request.getfixturevalue(name)) for name in needs}
        return {"spec": spec_of(text, RECIPES[text]).as_json(), "inputs": {"dataset": str(digits), **inputs}}

    return arguments


def names_in(folder: Path) -> set[str]:
    """Return the names in a folder, none where there is no folder."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def assert_finished(folder: Path, fingerprint: dict) -> None:
    """Fail unless a folder has the files of a run and nothing else, each as its manifest says."""
    assert names_in(folder) == {*FILES, MANIFEST}
    assert why_incomplete(folder, fingerprint) is None
    for name in FILES:
        read_manifest(folder).verified(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param(text, name, marks=() if (text, name) == ALWAYS else pytest.mark.slow)
        for text, names in KILLS.items()
        for name in names
    ],
)
def test_fault_23_a_training_killed_anywhere_goes_on_behind_its_last_whole_epoch(
    text, name, arguments_of, tmp_path
):
    case, arguments = CASES[name], arguments_of(text)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fingerprint = arguments["spec"]["fingerprint"]

    kill = case.kill
    if text == FINE_TUNE and kill.what == CHECKPOINT:
        kill = replace(kill, count=kill.count + len(TOP))
    train_in_child({**arguments, "folder": str(whole)}, {**arguments, "folder": str(killed)}, kill=kill)
    scratch = [path for path in killed.glob(".*") if is_scratch(path)]
    assert [is_left_behind(path) for path in scratch] == [True] * case.scratch
    assert names_in(killed) == {*case.left, *(path.name for path in scratch)}
    assert (why_incomplete(killed, fingerprint) is None) == (MANIFEST in case.left)

    epochs = TOP + BLOCKS if text == FINE_TUNE else BLOCKS
    assert train_in_child({**arguments, "folder": str(killed)}) == epochs[len(epochs) - case.again :]
    assert_finished(killed, fingerprint)
    assert (killed / PREDICTIONS).read_bytes() == (whole / PREDICTIONS).read_bytes()
    ends = [read_run(folder) for folder in (killed, whole)]
    assert ends[0].history.drop(columns="seconds").equals(ends[1].history.drop(columns="seconds"))
    answers = ends[0].split("test").probabilities
    assert answers.std(axis=0).max() > 0.01  # a network that says the same of all images proves nothing


@pytest.mark.slow
def test_a_run_that_is_trained_again_is_unfinished_until_all_its_files_are_new(arguments_of, tmp_path):
    arguments, folder = {**arguments_of(SCRATCH), "folder": str(tmp_path / "run")}, tmp_path / "run"
    fingerprint = arguments["spec"]["fingerprint"]
    train_in_child(arguments)
    (folder / MODEL).unlink()
    train_in_child(arguments, kill=Kill("behind", MODEL))
    assert why_incomplete(folder, fingerprint) is not None
    train_in_child(arguments)
    assert_finished(folder, fingerprint)
