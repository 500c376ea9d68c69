"""Every kind of head trains, and its saved model predicts what is stored; tuned heads use train and val."""

from __future__ import annotations

import csv
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from pipeline.datasets.store import ImageStore
from pipeline.errors import BadInput, DamagedFile, Diverged
from pipeline.features.store import FeatureStore
from pipeline.heads import linear
from pipeline.heads.data import HeadData, moments
from pipeline.heads.fit import SWEEP_CHOICE, HeadDataLoader, read_choice
from pipeline.recipes.heads import HEADS, NetworkHead, UncalibratedHead
from pipeline.recipes.schemes import SCHEMES, find_scheme
from pipeline.recipes.settings import as_dict, plain
from pipeline.recipes.sweep import SweepSpec, checked_space
from pipeline.runs.result import read_run
from pipeline.runs.spec import RunSpec
from pipeline.runs.train import train_run
from pipeline.storage.publishing import publish_json, publish_manifest, read_manifest
from pipeline.tuning.head_sweep import SWEEP_PLOT, SWEEP_TABLE, tune_head

# NumPy 2 warns about how Keras saves and loads variables
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LAYERS = ["block1_pool", "block2_pool"]
SMALL = {"layers": LAYERS, "views": ["identity", "hflip"]}
SMALL_NETWORK = {**SMALL, "epochs": 2, "batch_size": 16}
SPACE = {"alpha": [1.0, 1e3, 1e15], "layers": [["block1_pool"], ["block2_pool"]]}


def settings_of(name: str) -> dict:
    """Return settings that make a row of HEADS small."""
    if not isinstance(HEADS[name], NetworkHead):
        return SMALL
    return {**SMALL_NETWORK, "units": [8] if HEADS[name].units else []}


def trained(scheme: str, settings: dict, folder: Path, sources: dict[str, Path], **places) -> Path:
    """Train a run of a head in folder from a data set and features; return the folder."""
    row, name = find_scheme(scheme)
    options = {"settings": as_dict(row.recipe(name, settings)), "seed": 3, "precision": "float32"}
    names = {"scheme": row.name, "recipe": name, "row": name, "weights": "random", "backbone": "vgg16"}
    names["input_size"] = 32
    features = {"layers": LAYERS, "views": ["identity"]}
    spec = RunSpec(**options, **names, fingerprint={"scheme": scheme, **options, "features": features})
    inputs = {name: str(path) for name, path in (sources | places).items()}
    train_run(spec.as_json(), inputs, str(folder))
    return folder


@pytest.fixture(scope="module")
def sources(digits, features) -> dict[str, Path]:
    """The input folders of a head."""
    return {"dataset": digits, "features": features}


@pytest.fixture(scope="module")
def swept(sources, shelf) -> Path:
    """The folder of a sweep of ridge classifiers over penalties and layers."""
    recipe = HEADS["ridge"]
    space = checked_space(recipe, SPACE)
    spec = SweepSpec("ridge", as_dict(recipe), plain(space), {"sweep": "of ridge"}, weights="random")
    tune_head(asdict(spec), str(sources["dataset"]), str(sources["features"]), str(shelf / "sweep"))
    return shelf / "sweep"


@pytest.fixture(scope="module")
def tuned(sources, swept, shelf) -> Path:
    """The folder of a run of the head that the sweep chose."""
    return trained("tuned-head:ridge", {}, shelf / "tuned", sources, sweep=swept)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_trains_and_its_saved_model_reproduces_the_stored_probabilities(name, sources, tmp_path):
    folder = trained(f"head:{name}", settings_of(name), tmp_path / name, sources)
    run, images = read_run(folder), ImageStore(sources["dataset"])
    assert run.recipe["epochs"] == (2 if "epochs" in settings_of(name) else 0)
    model, store = keras.models.load_model(folder / "model.keras"), FeatureStore(sources["features"])
    for split in ("val", "test"):
        stored = run.split(split).probabilities
        np.testing.assert_allclose(stored.sum(axis=1), 1, atol=1e-5)
        by_view = [store.load(LAYERS, view)[images.rows(split)] for view in SMALL["views"]]
        predicted = sum(model.predict(features, verbose=0) for features in by_view) / 2
        np.testing.assert_allclose(predicted, stored, atol=1e-5)
    assert run.split("val").labels.tolist() == images.labels[images.rows("val")].tolist()


def test_a_sweep_publishes_a_table_a_plot_and_its_choice(swept):
    assert read_manifest(swept).fingerprint == {"sweep": "of ridge"}
    assert set(read_manifest(swept).files) == {SWEEP_TABLE, SWEEP_PLOT, SWEEP_CHOICE}
    table, choice = pd.read_csv(swept / SWEEP_TABLE), read_choice(swept)
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert set(zip(table["alpha"], table["layers"], strict=True)) == {
        (alpha, *layers) for alpha in SPACE["alpha"] for layers in SPACE["layers"]
    }
    assert table["val_accuracy"].is_monotonic_decreasing
    assert (table["val_accuracy_low"] < table["val_accuracy"]).all()
    assert choice["settings"] == {"alpha": table["alpha"][0], "layers": [table["layers"][0]]}
    assert choice["val_accuracy"] == pytest.approx(table["val_accuracy"][0])
    assert choice["temperature"] == pytest.approx(table["temperature"][0])
    assert choice["heads"] == 6
    assert choice["seconds"] >= table["seconds"].sum()


def test_a_tuned_head_is_evaluated_on_test_images_only(tuned, sources):
    run, images = read_run(tuned), ImageStore(sources["dataset"])
    counts = images.counts
    expected = {"n_train": counts["train"] + counts["val"], "n_val": 0, "n_test": counts["test"]}
    assert {name: run.recipe[name] for name in expected} == expected
    assert len(run.split("val").labels) == 0
    assert run.split("test").index.tolist() == images.index[images.rows("test")].tolist()


def test_a_tuned_head_records_the_choice_and_the_time_of_the_sweep(tuned, swept):
    run, choice = read_run(tuned), read_choice(swept)
    chosen = {**choice["settings"], "temperature": choice["temperature"], "fit_on": "train+val"}
    assert {name: run.recipe["settings"][name] for name in chosen} == chosen
    assert run.costs["tune_seconds"] == choice["seconds"]
    parts = ("train_seconds", "tune_seconds", "extract_seconds")
    assert run.costs["total_seconds"] == pytest.approx(sum(run.costs[part] for part in parts), abs=2e-3)


def test_a_tuned_head_is_fitted_on_train_and_val_together(tuned, swept, sources):
    store, chosen = FeatureStore(sources["features"]), read_choice(swept)["settings"]
    both = np.sort(np.concatenate([store.rows("train"), store.rows("val")]))
    model = keras.models.load_model(tuned / "model.keras")
    mean, variance = moments(store.load(chosen["layers"])[both])
    np.testing.assert_allclose(np.ravel(model.get_layer("standardise").mean), mean, rtol=1e-5)
    np.testing.assert_allclose(np.ravel(model.get_layer("standardise").variance), variance, rtol=1e-5)
    examples = HeadDataLoader(HEADS["ridge"], store, ImageStore(sources["dataset"]))(
        tuple(chosen["layers"])
    ).examples
    data = HeadData(type(examples)(examples.inputs, examples.labels, both, both[:0], 10))
    recipe = SCHEMES["head"].recipe("ridge", {"alpha": chosen["alpha"]})
    expected = linear.fit(recipe, data).get_layer("logits").get_weights()
    for pair in zip(model.get_layer("logits").get_weights(), expected, strict=True):
        np.testing.assert_allclose(*pair, atol=1e-5)


def test_balanced_classes_are_recorded_with_the_run(sources, tmp_path):
    settings = {"layers": ["block1_pool"], "c": 1.0}
    runs = [
        read_run(trained("head:logistic", settings | more, tmp_path / str(number), sources))
        for number, more in enumerate(({}, {"class_weights": "balanced"}))
    ]
    assert [run.recipe["settings"]["class_weights"] for run in runs] == ["none", "balanced"]


@pytest.mark.parametrize("name", ["linear", "logistic"])
def test_a_head_that_is_calibrated_by_its_loss_can_be_fitted_on_train_and_val(name, sources, tmp_path):
    settings = settings_of(name) | {"fit_on": "train+val"}
    run = read_run(trained(f"head:{name}", settings, tmp_path / "run", sources))
    assert (run.recipe["n_val"], len(run.split("val").labels)) == (0, 0)
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        assert {row["val_loss"] for row in csv.DictReader(file)} <= {""}


@pytest.mark.parametrize(
    "name", [name for name, recipe in HEADS.items() if isinstance(recipe, UncalibratedHead)]
)
def test_an_uncalibrated_head_without_val_needs_a_temperature(name):
    with pytest.raises(
        BadInput, match=f"{name}: expected a temperature with fit_on=train.val, .* received 0"
    ):
        SCHEMES["head"].recipe(name, {"fit_on": "train+val"})
    assert SCHEMES["head"].recipe(name, {"fit_on": "train+val", "temperature": 2}).temperature == 2.0


def test_a_choice_with_a_missing_key_is_rejected_with_advice(tmp_path):
    publish_json(tmp_path / SWEEP_CHOICE, {"settings": {}, "seconds": 1.0})
    publish_manifest(tmp_path, {}, [SWEEP_CHOICE])
    with pytest.raises(DamagedFile, match="choice.json: missing temperature; delete it and run again"):
        read_choice(tmp_path)


def test_an_edited_choice_is_rejected(swept, sources, tmp_path, flip_byte):
    for name in (SWEEP_CHOICE, SWEEP_TABLE, SWEEP_PLOT, "manifest.json"):
        (tmp_path / name).write_bytes((swept / name).read_bytes())
    flip_byte(tmp_path / SWEEP_CHOICE)
    with pytest.raises(DamagedFile, match=SWEEP_CHOICE):
        trained("tuned-head:ridge", {}, tmp_path / "run", sources, sweep=tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_loader_returns_no_val_rows_if_val_is_trained_on(features, digits):
    store = FeatureStore(features)
    recipe = replace(HEADS["ridge"], views=("identity", "hflip"), fit_on="train+val")
    load = HeadDataLoader(recipe, store, ImageStore(digits))
    data = load(("block1_pool",))
    assert data.examples.inputs.shape == (200, 64)
    assert data.train.shape == (2 * (len(store.rows("train")) + len(store.rows("val"))), 64)
    assert len(data.val) == len(data.val_labels) == 0
    assert not set(data.examples.train) & set(store.rows("test"))
    assert load.width("block2_pool") == 128


def test_features_that_are_not_finite_are_rejected():
    with pytest.raises(Diverged, match="found NaN or infinity in 1 of 3; extract them again"):
        moments(np.float32([[1, 2, 3], [1, np.nan, 3]]))
