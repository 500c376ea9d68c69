"""A run's folder reads back, records how it was trained, and is usable without this project."""

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
from pipeline.runs.train import RUN_FILES, train_run
from pipeline.schemes.head import parameters_below
from pipeline.storage.publishing import MANIFEST, read_manifest

# NumPy 2 warns about how Keras saves and loads variables
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
class TrainedRun:
    """A trained run and its inputs."""

    folder: Path
    spec: RunSpec
    costs: dict
    images: ImageStore
    features: FeatureStore | None


def train(spec: RunSpec, dataset: Path, folder: Path, **inputs: str) -> dict:
    """Train from JSON values as the task graph does; return the costs."""
    return train_run(spec.as_json(), {"dataset": str(dataset), **inputs}, str(folder))


@pytest.fixture(scope="module", params=RUNS)
def trained(request, shelf) -> TrainedRun:
    """One run of each scheme, on 100 digits."""
    spec, folder = spec_of(request.param, RUNS[request.param]), shelf / request.param.replace(":", "-")
    digits, inputs = request.getfixturevalue("digits"), {}
    if find_scheme(request.param)[0].needs:
        inputs = {name: str(request.getfixturevalue(name)) for name in ("weights", "features")}
    costs = train(spec, digits, folder, **inputs)
    features = FeatureStore(inputs["features"]) if inputs else None
    return TrainedRun(folder, spec, costs, ImageStore(digits), features)


def test_a_run_writes_its_files_and_a_manifest_with_its_fingerprint(trained):
    assert {path.name for path in trained.folder.iterdir()} == {*RUN_FILES, MANIFEST}
    manifest = read_manifest(trained.folder)
    assert manifest.fingerprint == trained.spec.fingerprint
    for name in RUN_FILES:
        manifest.verified(name)


def test_a_run_reads_back_with_a_prediction_for_every_val_and_test_image(trained):
    run, images = read_run(trained.folder), trained.images
    for split in ("val", "test"):
        rows = images.rows(split)
        predictions = run.split(split)
        assert predictions.index.tolist() == images.index[rows].tolist()
        assert predictions.names.tolist() == [images.names[row] for row in rows]
        assert predictions.labels.tolist() == images.labels[rows].tolist()
        assert predictions.class_names == tuple("0123456789")


def test_the_history_has_the_columns_and_stages_of_the_run(trained):
    with (trained.folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row) for row in rows] == [HISTORY_COLUMNS] * len(rows)
    assert [row["stage"] for row in rows] == STAGES[trained.spec.name]
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))


def test_the_recipe_file_records_how_the_run_was_trained(trained):
    recipe = json.loads((trained.folder / "recipe.json").read_text())
    assert recipe["scheme"] == trained.spec.name
    fields = ("settings", "seed", "precision", "weights", "backbone", "fingerprint")
    assert {name: recipe[name] for name in fields} == {name: getattr(trained.spec, name) for name in fields}
    assert recipe["dataset"] == "digits"
    assert "demonstration" in recipe["dataset_note"]
    assert {split: recipe[f"n_{split}"] for split in ("train", "val", "test")} == trained.images.counts
    assert recipe["epochs"] == len(STAGES[trained.spec.name])
    assert recipe["versions"] == machine.versions()
    assert {"python", "tensorflow", "keras", "numpy"} <= set(recipe["versions"])
    assert recipe["machine"]["precision"] == "float32"
    assert recipe["machine"]["deterministic_operations"] is True
    assert {"processor", "cores", "threads", "devices"} <= set(recipe["machine"])


def test_the_recipe_file_counts_the_parameters_of_backbone_and_head(trained):
    recipe = json.loads((trained.folder / "recipe.json").read_text())
    backbone, below_block5 = (parameters_below("vgg16", (f"block{block}_pool",)) for block in (5, 4))
    joined = 256 + 512 + 512
    expected = {
        "from-scratch:lesson": 2 * [(27 * 4 + 4) + (16 * 16 * 4 * 8 + 8) + 4 * 8 + (8 * 10 + 10)],
        "head:dense": [backbone + joined * 8 + 8 + 90, joined * 8 + 8 + 90],
        "fine-tune:block5": [backbone + 512 * 8 + 8 + 90, backbone - below_block5 + 512 * 8 + 8 + 90],
    }[trained.spec.name]
    if trained.spec.name == "from-scratch:lesson":
        expected[1] -= 2 * 8  # the moving mean and variance of its batch norm
    assert [recipe["parameters"], recipe["trainable_parameters"]] == expected


def test_the_saved_model_reproduces_the_stored_probabilities(trained):
    model = keras.models.load_model(trained.folder / "model.keras")  # safe mode: the file contains no code
    rows = trained.images.rows("test")
    inputs = trained.images.images[rows]
    assert inputs.dtype == np.uint8
    if trained.spec.name.startswith("head:"):
        inputs = trained.features.load(trained.spec.settings["layers"])[rows]
    stored = read_run(trained.folder).split("test").probabilities
    np.testing.assert_allclose(model.predict(inputs, verbose=0), stored, atol=1e-5)


def test_the_costs_are_stored_and_positive(trained):
    costs = json.loads((trained.folder / "costs.json").read_text())
    assert costs == trained.costs
    assert costs["train_seconds"] > 0
    assert costs["peak_memory_mb"] > 0
    assert costs["bytes"] == sum(
        (trained.folder / name).stat().st_size for name in RUN_FILES if name != "costs.json"
    )
    assert (costs["extract_seconds"] > 0) == (trained.features is not None)
    assert costs["total_seconds"] == pytest.approx(costs["train_seconds"] + costs["extract_seconds"])
    assert {"start", "predict", "publish", *STAGES[trained.spec.name]} <= set(costs["stages"])
    assert 0 < sum(costs["stages"].values()) <= costs["train_seconds"] + 0.01


def test_the_same_specification_gives_byte_identical_predictions(digits, tmp_path):
    for name in ("first", "second"):
        train(spec_of("from-scratch:lesson", TINY), digits, tmp_path / name)
    first, second = ((tmp_path / name / "predictions.h5").read_bytes() for name in ("first", "second"))
    assert first == second


def test_a_bfloat16_run_records_its_precision_and_its_model_reproduces_the_predictions(digits, tmp_path):
    train(spec_of("from-scratch:lesson", TINY, precision="bfloat16"), digits, tmp_path / "run")
    keras.config.set_dtype_policy("float32")
    run, images = read_run(tmp_path / "run"), ImageStore(digits)
    assert run.recipe["precision"] == run.recipe["machine"]["precision"] == "bfloat16"
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert model.get_layer("block1_conv1").compute_dtype == "bfloat16"
    probabilities = model.predict(images.images[images.rows("test")], verbose=0)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, run.split("test").probabilities, atol=0.02)


def test_fault_25_a_diverging_run_leaves_no_folder(digits, tmp_path):
    sgd = {"optimizer": "sgd", "learning_rate": 100.0, "lr_schedule": "constant", "warmup": 0.0, "epochs": 5}
    spec = spec_of("from-scratch:lesson", {**TINY, **sgd, "batch_size": 4})
    with pytest.raises(Diverged, match=r"^blocks: .* in epoch \d; try a learning rate below 100"):
        train(spec, digits, tmp_path / "run")
    assert not (tmp_path / "run").exists()
