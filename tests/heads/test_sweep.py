"""A sweep tries every combination once and ranks them on val; invalid spaces are rejected."""

from __future__ import annotations

import dataclasses
import statistics

import numpy as np
import pytest

from pipeline.datasets.store import ImageStore
from pipeline.errors import BadInput, Diverged
from pipeline.features.store import FeatureStore
from pipeline.heads import linear
from pipeline.heads.calibration import probabilities_of
from pipeline.heads.data import HeadData
from pipeline.heads.fit import HeadDataLoader, fit_head
from pipeline.heads.stacked import train_stack
from pipeline.heads.sweep import _pool_seeds, sweep
from pipeline.recipes.heads import HEADS, UncalibratedHead
from pipeline.recipes.settings import override
from pipeline.recipes.sweep import MAX_COMBINATIONS, checked_space, layers_of, points_of

BLOCK1, BLOCK2 = ("block1_pool",), ("block2_pool",)
QUICK = dataclasses.replace(HEADS["linear"], epochs=3, batch_size=16, layers=BLOCK2)


class RecordingLoader:
    """A loader of the digits' features that records which layer sets it loaded."""

    def __init__(self, features, digits):
        store, images = FeatureStore(features), ImageStore(digits)
        self._loader, self.loaded = HeadDataLoader(HEADS["ridge"], store, images), []
        self.width = self._loader.width

    def __call__(self, layers: tuple[str, ...]) -> HeadData:
        """Return the data of the concatenated layers."""
        self.loaded.append(layers)
        return self._loader(layers)


@pytest.fixture
def loader(features, digits) -> RecordingLoader:
    """A loader for the features of a hundred digits."""
    return RecordingLoader(features, digits)


def accuracy(logits: np.ndarray, data: HeadData) -> float:
    """Return the accuracy on val of logits (n, C)."""
    return float((logits.argmax(axis=1) == data.val_labels).mean())


def test_combinations_come_in_order_and_the_last_axis_varies_fastest():
    points = points_of({"c": (1.0, 2.0), "seed": (7, 8)})
    assert [tuple(point.values()) for point in points] == [(1.0, 7), (1.0, 8), (2.0, 7), (2.0, 8)]
    assert points_of({}) == [{}]


def test_axes_replace_or_extend_those_of_the_recipe():
    space = checked_space(HEADS["linear"], {"learning_rate": [1], "layers": ["block1_pool, block2_pool"]})
    assert space == {
        "learning_rate": (1.0,),
        "weight_decay": HEADS["linear"].space["weight_decay"],
        "layers": (BLOCK1 + BLOCK2,),
    }


def test_an_empty_list_removes_the_axis_and_uses_the_recipes_value(loader):
    recipe = dataclasses.replace(HEADS["ridge"], alpha=5.0, layers=BLOCK1)
    space = checked_space(recipe, {"alpha": []})
    assert space == {}
    (trial,) = sweep(recipe, space, loader)
    data = loader(BLOCK1)
    predictions = fit_head(recipe, data)(data.examples.inputs[data.examples.val], training=False).numpy()
    assert trial.settings == {}
    assert trial.val_accuracy == accuracy(predictions, data)


def test_a_duplicate_value_is_tried_once():
    space = checked_space(HEADS["knn"], {"neighbours": [3, 3, 5], "seed": [1, 0, 1]})
    assert space == {"neighbours": (3, 5), "seed": (1, 0)}


@pytest.mark.parametrize(
    ("name", "space", "message"),
    [
        ("ridge", {"c": [1]}, "unknown setting 'c' for RidgeHead: expected one of .*alpha"),
        ("ridge", {"alpha": "1,2"}, "space of ridge: expected a list of values for alpha, received '1,2'"),
        ("ridge", {"alpha": 3}, "space of ridge: expected a list of values for alpha, received 3"),
        ("ridge", {"alpha": ["much"]}, "setting alpha: expected a number .*received 'much'"),
        ("ridge", {"alpha": [-1]}, "setting alpha: expected a number from 1e-09"),
        ("dense", {"units": [512]}, r"setting units: expected whole numbers .*received 512"),
        ("knn", {"seed": [0.5]}, "space of knn: expected seeds of 0 or more, received 0.5"),
        ("knn", {"seed": [-1]}, "space of knn: expected seeds of 0 or more, received -1"),
        ("svm", {"temperature": [1, 2]}, "space of svm: temperature is the same for all heads"),
        ("linear", {"views": [["hflip"]]}, "space of linear: views is the same for all heads"),
        ("linear", {"fit_on": ["train"]}, "space of linear: fit_on is the same for all heads"),
        ("dense", {"dense_blocks": ["dens"]}, "'dens' in block 'dens'"),
        ("dense", {"dense_blocks": ["dropout - dense"]}, "expected dense blocks that start with dense"),
        (
            "linear",
            {"learning_rate": [step / 1000 for step in range(1, 1001)]},
            f"space of linear: expected at most {MAX_COMBINATIONS} combinations, received 8000$",
        ),
    ],
)
def test_an_invalid_space_is_rejected_before_any_work(name, space, message):
    with pytest.raises(BadInput, match=message):
        checked_space(HEADS[name], space)


def test_a_space_with_too_many_combinations_for_memory_is_rejected_immediately():
    many = [step / 1000 for step in range(1, 901)]
    space = dict.fromkeys(("learning_rate", "weight_decay", "dropout", "label_smoothing"), many)
    with pytest.raises(BadInput, match=f"received {900**4}$"):
        checked_space(HEADS["linear"], space)


def test_a_sweep_reads_each_of_its_layers_once():
    space = {"layers": (BLOCK2, BLOCK1 + BLOCK2)}
    assert layers_of(HEADS["ridge"], space) == ("block2_pool", "block1_pool")
    assert layers_of(HEADS["ridge"], {}) == HEADS["ridge"].layers


@pytest.mark.parametrize("name", ["ridge", "logistic", "knn"])
def test_a_trial_scores_the_same_as_its_head_alone(loader, name):
    setting, values = {
        "ridge": ("alpha", [1, 1e3]),
        "logistic": ("c", [1e-3, 1]),
        "knn": ("neighbours", [1, 9]),
    }[name]
    recipe = dataclasses.replace(HEADS[name], layers=BLOCK2)
    data = loader(BLOCK2)
    for trial in sweep(recipe, checked_space(recipe, {setting: values}), loader):
        model = fit_head(override(recipe, trial.settings), data)
        probabilities = model(data.examples.inputs[data.examples.val], training=False).numpy()
        assert trial.val_accuracy == pytest.approx(accuracy(probabilities, data))
        loss = -np.log(probabilities[np.arange(len(probabilities)), data.val_labels]).mean()
        assert trial.val_loss == pytest.approx(loss, rel=0.02)
        assert (trial.temperature is None) == (not isinstance(recipe, UncalibratedHead))
        assert (trial.seeds, trial.spread) == (1, None)


def test_trials_are_ranked_by_accuracy_then_by_loss_then_in_the_spaces_order(loader):
    space = checked_space(HEADS["ridge"], {"alpha": [1e15, 1e14, 10.0, 1e3, 1.0], "layers": [BLOCK2]})
    trials = sweep(HEADS["ridge"], space, loader)
    ranks = [(-trial.val_accuracy, trial.val_loss) for trial in trials]
    assert ranks == sorted(ranks)
    assert len({trial.settings["alpha"] for trial in trials}) == 5

    scores = [(0.5, 1.0, None, 0.1), (0.7, 2.0, None, 0.1), (0.7, 1.0, None, 0.1), (0.7, 1.0, None, 0.1)]
    pooled = _pool_seeds([{"c": number} for number in range(4)], scores)
    assert [trial.settings["c"] for trial in pooled] == [2, 3, 1, 0]


def test_a_trial_in_which_a_seed_diverged_comes_last():
    points = points_of({"c": (1, 2), "seed": (0, 1)})
    scores = [(0.9, 0.5, None, 1), (0.0, float("inf"), None, 1), (0.2, 2.0, None, 1), (0.2, 2.0, None, 1)]
    assert [trial.settings["c"] for trial in _pool_seeds(points, scores)] == [2, 1]


def test_seeds_are_pooled_with_their_mean_and_spread(loader):
    space = checked_space(QUICK, {"learning_rate": [3e-3, 1e-2], "weight_decay": [], "seed": [0, 1, 2]})
    trials = sweep(QUICK, space, loader)
    data = loader(BLOCK2)
    logits = train_stack(QUICK, points_of(space), data)
    for trial in trials:
        first = 3 * space["learning_rate"].index(trial.settings["learning_rate"])
        alone = [accuracy(logits[:, number], data) for number in range(first, first + 3)]
        assert trial.settings.keys() == {"learning_rate"}
        assert trial.seeds == 3
        assert trial.val_accuracy == pytest.approx(statistics.fmean(alone))
        assert trial.spread == pytest.approx(statistics.stdev(alone))


def test_layer_sets_of_networks_are_masks_over_features_that_are_read_once(loader):
    space = checked_space(
        QUICK, {"learning_rate": [], "weight_decay": [], "layers": [BLOCK1, BLOCK2, BLOCK1 + BLOCK2]}
    )
    trials = sweep(QUICK, space, loader)
    assert loader.loaded == [BLOCK1 + BLOCK2]
    data = loader(BLOCK1 + BLOCK2)
    masks = np.ones((64 + 128, 3), bool)
    masks[64:, 0] = masks[:64, 1] = False
    logits = train_stack(QUICK, points_of(space), data, masks=masks)
    expected = {layers: accuracy(logits[:, number], data) for number, layers in enumerate(space["layers"])}
    assert {trial.settings["layers"]: trial.val_accuracy for trial in trials} == pytest.approx(expected)


def test_layer_sets_of_other_heads_are_read_one_after_the_other(loader):
    space = checked_space(HEADS["ridge"], {"alpha": [1, 100], "layers": [BLOCK1, BLOCK2]})
    trials = sweep(HEADS["ridge"], space, loader)
    assert loader.loaded == [BLOCK1, BLOCK2]
    for layers in (BLOCK1, BLOCK2):
        alone = sweep(
            HEADS["ridge"], checked_space(HEADS["ridge"], {"alpha": [1, 100], "layers": [layers]}), loader
        )
        expected = {trial.settings["alpha"]: trial.val_loss for trial in alone}
        losses = {t.settings["alpha"]: t.val_loss for t in trials if t.settings["layers"] == layers}
        assert losses == pytest.approx(expected)


def test_settings_that_change_the_shape_form_groups_but_features_are_read_once(loader):
    recipe = dataclasses.replace(QUICK, epochs=1)
    space = checked_space(recipe, {"weight_decay": [], "learning_rate": [0.01], "units": [[], [4]]})
    units = {trial.settings["units"] for trial in sweep(recipe, space, loader)}
    assert units == {(), (4,)}
    assert loader.loaded == [BLOCK2]


def test_a_temperature_set_in_the_recipe_is_used(loader):
    recipe = dataclasses.replace(HEADS["ridge"], temperature=0.25, layers=BLOCK1)
    (trial,) = sweep(recipe, {"alpha": (10.0,)}, loader)
    assert trial.temperature == 0.25
    data = loader(BLOCK1)
    expected = probabilities_of(linear.predict_logits(recipe, [{"alpha": 10.0}], data)[0], 0.25)
    loss = -np.log(expected[np.arange(len(expected)), data.val_labels]).mean()
    assert trial.val_loss == pytest.approx(loss, rel=1e-4)


def test_heads_that_diverge_come_last_and_it_is_an_error_if_all_diverge(loader):
    unstable = dataclasses.replace(QUICK, epochs=20, optimizer="sgd", weight_decay=10.0)
    trials = sweep(unstable, {"learning_rate": (100.0, 0.01)}, loader)
    assert [trial.settings["learning_rate"] for trial in trials] == [0.01, 100.0]
    assert (trials[1].val_accuracy, trials[1].val_loss) == (0.0, float("inf"))
    with pytest.raises(Diverged, match="sweep of linear: every head diverged"):
        sweep(unstable, {"learning_rate": (100.0,)}, loader)
