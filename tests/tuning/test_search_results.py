"""A search publishes a table, plots, a comparison with the unchanged recipe, and a named recipe."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from pipeline.progress import silent
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.named import named_recipe
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.settings import as_dict
from pipeline.recipes.space import checked_axes, plain_axes
from pipeline.runs.spec import RunSpec
from pipeline.storage.publishing import read_manifest
from pipeline.tuning import search as search_module
from pipeline.tuning.search import SearchSpec, search
from pipeline.tuning.study import distributions, open_study, seal_study, settings_of

LESSON = SCRATCH_RECIPES["lesson"]
AXES = checked_axes(
    LESSON,
    {**dict.fromkeys(LESSON.space, ()), "learning_rate": {"low": 1e-4, "high": 1.0, "log": True}},
)
SEED_EFFECTS = {0: 0.0, 1: 0.01, 2: -0.01}


def accuracy(rate: float, seed: int) -> float:
    """Replaces a training: the accuracy is highest at a learning rate of 0.1."""
    return 0.8 - 0.1 * abs(math.log10(rate) + 1) + SEED_EFFECTS[seed]


def in_this_process(name: str, arguments: dict, progress) -> float | None:
    """Replace run_in_child: do the same in this process without training."""
    run = RunSpec.from_json(arguments["spec"])
    if name == "pipeline.tuning.trial:val_accuracy":
        return accuracy(run.settings["learning_rate"], run.seed)
    recipe = run.load_recipe()
    path = Path(arguments["study"])
    study = open_study(path, arguments["draw"], run.seed)
    trial = study.ask(distributions(recipe, AXES))
    study.tell(trial, accuracy(settings_of(recipe, trial.params)["learning_rate"], run.seed))
    seal_study(path)
    return None


@pytest.fixture(scope="module")
def finished_search(tmp_path_factory):
    """The folder of a finished search of six trials, the folder of recipes, and the choice."""
    folder = tmp_path_factory.mktemp("search")
    run = RunSpec(
        **{"scheme": "from-scratch", "recipe": "lesson", "row": "lesson", "settings": as_dict(LESSON)},
        **{"seed": 0, "precision": "float32", "input_size": 32, "weights": "none", "backbone": "none"},
        fingerprint={"search": "lesson"},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "run_in_child", in_this_process)
        choice = search(
            SearchSpec(run, plain_axes(AXES), "mine", trials=6, minutes=0, confirmations=2, jobs=1),
            {"dataset": "no folder"},
            folder=folder / "study",
            recipes=folder / "recipes",
            n_val=100,
            caption="caption",
            progress=silent,
        )
    return folder / "study", folder / "recipes", choice


def test_all_files_are_listed_and_exist(finished_search):
    files = read_manifest(finished_search[0]).files
    assert set(files) == {
        *("study.log", "study.seal.json", "trials.csv", "study.md", "choice.json"),
        *("history.png", "importance.png", "settings.png"),
    }
    assert read_manifest(finished_search[0]).missing() is None


def test_the_choice_is_the_best_trial_and_is_stored_with_the_unchanged_recipes_score(finished_search):
    folder, _, choice = finished_search
    table = pd.read_csv(folder / "trials.csv")
    assert choice["val_accuracy"] == table["val_accuracy"].max()
    assert choice["as_it_is"] == pytest.approx(accuracy(LESSON.learning_rate, 0))
    assert json.loads((folder / "choice.json").read_text())["settings"] == choice["settings"]
    assert "optuna" in choice["versions"]


def test_the_choice_is_confirmed_with_seeds_that_the_search_did_not_use(finished_search):
    confirmation = finished_search[2]["again"]
    assert confirmation["seeds"] == [1, 2]
    gain = accuracy(finished_search[2]["settings"]["learning_rate"], 0) - accuracy(LESSON.learning_rate, 0)
    assert confirmation["difference"]["mean"] == pytest.approx(gain)
    assert confirmation["difference"]["low"] == pytest.approx(gain, abs=1e-9)


def test_the_page_gives_the_gain_and_the_command_to_train(finished_search):
    page = (finished_search[0] / "study.md").read_text()
    gain = 100 * finished_search[2]["again"]["difference"]["mean"]
    assert f": {gain:+.1f} points (95 % over seeds: {gain:+.1f} … {gain:+.1f})." in page
    assert "`luigi --module tasks TrainFromScratch --recipe mine` trains the chosen recipe." in page


def test_the_named_recipe_has_the_chosen_settings_and_their_origin(finished_search):
    _, recipes, choice = finished_search
    recipe = named_recipe(recipes, SCHEMES["from-scratch"], "mine")
    assert recipe.learning_rate == choice["settings"]["learning_rate"]
    assert recipe.conv_blocks == LESSON.conv_blocks
    saved = json.loads((recipes / "mine" / "recipe.json").read_text())
    assert list(saved["settings"]) == ["learning_rate"]
    assert saved["origin"]["trial"] == choice["trial"]
