"""A run leaves a folder that reads back, says how it came about, and can be used without this project."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from small_specs import spec_of

from pipeline import machine
from pipeline.datasets.store import ImageStore
from pipeline.errors import Diverged
from pipeline.features.store import FeatureStore
from pipeline.recipes.schemes import find_scheme
from pipeline.runs.result import HISTORY_COLUMNS, read_run
from pipeline.runs.spec import RunSpec
from pipeline.runs.train import FILES, train_run
from pipeline.schemes.head import parameters_below
from pipeline.storage.publishing import MANIFEST, read_manifest

# Keras saves and loads its variables in a way of which NumPy 2 warns
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = {"conv_blocks": "conv - maxpool", "filters": [4], "units": [8], "epochs": 1, "batch_size": 16}
RUNS = {
    "from-scratch:lesson": TINY,
    "head:dense": {"units": [8], "epochs": 2, "layers": ["block3_pool", "block4_pool", "block5_pool"]},
    "fine-tune:block5": {"units": [8], "epochs": 1, "top_epochs": 1, "batch_size": 35},
}
STAGES = {
    "from-scratch:lesson": ["blocks"],
    "head:dense": ["head", "head"],
    "fine-tune:block5": ["top", "blocks"],
}


@dataclass(frozen=True)
class Made:
    """A run that was trained, with what it was trained from."""

    folder: Path
    spec: RunSpec
    costs: dict
    images: ImageStore
    features: FeatureStore | None


def train(spec: RunSpec, dataset: Path, folder: Path, **inputs: str) -> dict:
    """Train as the graph does, by plain values; return the costs."""
    return train_run(spec.as_json(), {"dataset": str(dataset), **inputs}, str(folder))


@pytest.fixture(scope="module", params=RUNS)
def made(request, shelf) -> Made:
    """One run of each scheme, on one hundred digits."""
    spec, folder = spec_of(request.param, RUNS[request.param]), shelf / request.param.replace(":", "-")
    digits, inputs = request.getfixturevalue("digits"), {}
    if find_scheme(request.param)[0].needs:
        inputs = {name: str(request.getfixturevalue(name)) for name in ("weights", "features")}
    costs = train(spec, digits, folder, **inputs)
    features = FeatureStore(inputs["features"]) if inputs else None
    return Made(folder, spec, costs, ImageStore(digits), features)


def test_a_run_leaves_its_files_and_a_manifest_with_its_fingerprint(made):
    assert {path.name for path in made.folder.iterdir()} == {*FILES, MANIFEST}
    manifest = read_manifest(made.folder)
    assert manifest.fingerprint == made.spec.fingerprint
    for name in FILES:
        manifest.verified(name)


def test_a_run_reads_back_with_a_prediction_for_every_val_and_test_image(made):
    run, images = read_run(made.folder), made.images
    for split in ("val", "test"):
        rows = images.rows(split)
        found = run.split(split)
        assert found.index.tolist() == images.index[rows].tolist()
        assert found.names.tolist() == [images.names[row] for row in rows]
        assert found.labels.tolist() == images.labels[rows].tolist()
        assert found.class_names == tuple("0123456789")


def test_the_history_has_the_columns_and_stages_of_the_run(made):
    with (made.folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row) for row in rows] == [HISTORY_COLUMNS] * len(rows)
    assert [row["stage"] for row in rows] == STAGES[made.spec.name]
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))


def test_the_record_says_how_the_run_came_about(made):
    recipe = json.loads((made.folder / "recipe.json").read_text())
    assert recipe["scheme"] == made.spec.name
    told = ("settings", "seed", "precision", "weights", "backbone", "fingerprint")
    assert {name: recipe[name] for name in told} == {name: getattr(made.spec, name) for name in told}
    assert recipe["dataset"] == "digits"
    assert "demonstration" in recipe["dataset_note"]
    assert {split: recipe[f"n_{split}"] for split in ("train", "val", "test")} == made.images.counts
    assert recipe["epochs"] == len(STAGES[made.spec.name])
    assert recipe["versions"] == machine.versions()
    assert {"python", "tensorflow", "keras", "numpy"} <= set(recipe["versions"])
    assert recipe["machine"]["precision"] == "float32"
    assert recipe["machine"]["deterministic_operations"] is True
    assert {"processor", "cores", "threads", "devices", "onednn"} <= set(recipe["machine"])


def test_the_record_counts_the_parameters_of_backbone_and_head(made):
    recipe = json.loads((made.folder / "recipe.json").read_text())
    whole, block4 = (parameters_below("vgg16", (f"block{block}_pool",)) for block in (5, 4))
    joined = 256 + 512 + 512
    expected = {
        "from-scratch:lesson": 2 * [(27 * 4 + 4) + (16 * 16 * 4 * 8 + 8) + 4 * 8 + (8 * 10 + 10)],
        "head:dense": [whole + joined * 8 + 8 + 90, joined * 8 + 8 + 90],
        "fine-tune:block5": [whole + 512 * 8 + 8 + 90, whole - block4 + 512 * 8 + 8 + 90],
    }[made.spec.name]
    if made.spec.name == "from-scratch:lesson":
        expected[1] -= 2 * 8  # the moving mean and variance of its batch norm
    assert [recipe["parameters"], recipe["trainable_parameters"]] == expected


def test_the_saved_model_reproduces_the_stored_answers(made):
    model = keras.models.load_model(made.folder / "model.keras")  # in safe mode: no code comes with it
    rows = made.images.rows("test")
    inputs = made.images.images()[rows]
    assert inputs.dtype == np.uint8
    if made.spec.name.startswith("head:"):
        inputs = made.features.load(made.spec.settings["layers"])[rows]
    stored = read_run(made.folder).split("test").probabilities
    np.testing.assert_allclose(model.predict(inputs, verbose=0), stored, atol=1e-5)


def test_the_costs_are_there_and_positive(made):
    costs = json.loads((made.folder / "costs.json").read_text())
    assert costs == made.costs
    assert costs["train_seconds"] > 0
    assert costs["peak_memory_mb"] > 0
    assert costs["bytes"] == sum(
        (made.folder / name).stat().st_size for name in FILES if name != "costs.json"
    )
    assert (costs["extract_seconds"] > 0) == (made.features is not None)
    assert costs["total_seconds"] == pytest.approx(costs["train_seconds"] + costs["extract_seconds"])
    assert {"start", "predict", "publish", *STAGES[made.spec.name]} <= set(costs["stages"])
    assert 0 < sum(costs["stages"].values()) <= costs["train_seconds"] + 0.01


def test_the_same_specification_gives_the_same_predictions_byte_by_byte(digits, tmp_path):
    for name in ("first", "second"):
        train(spec_of("from-scratch:lesson", TINY), digits, tmp_path / name)
    first, second = ((tmp_path / name / "predictions.h5").read_bytes() for name in ("first", "second"))
    assert first == second


def test_a_run_in_bfloat16_says_so_and_its_model_answers_as_it_did(digits, tmp_path):
    train(spec_of("from-scratch:lesson", TINY, precision="bfloat16"), digits, tmp_path / "run")
    keras.config.set_dtype_policy("float32")
    run, images = read_run(tmp_path / "run"), ImageStore(digits)
    assert run.recipe["precision"] == run.recipe["machine"]["precision"] == "bfloat16"
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert model.get_layer("block1_conv1").compute_dtype == "bfloat16"
    answers = model.predict(images.images()[images.rows("test")], verbose=0)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, run.split("test").probabilities, atol=0.02)


def test_fault_25_a_run_that_diverges_leaves_no_manifest(digits, tmp_path):
    wild = {"optimizer": "sgd", "learning_rate": 100.0, "lr_schedule": "constant", "warmup": 0.0, "epochs": 5}
    spec = spec_of("from-scratch:lesson", {**TINY, **wild, "batch_size": 4})
    with pytest.raises(Diverged, match=r"^blocks: .* in epoch \d; try a learning rate below 100"):
        train(spec, digits, tmp_path / "run")
    assert not (tmp_path / "run").exists()
