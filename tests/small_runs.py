"""A synthetic run folder, with the files that a training writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.runs.result import HISTORY_COLUMNS, read_run, write_predictions
from pipeline.storage.publishing import publish_manifest

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def synthetic_predictions(recipe: dict, skill: float) -> dict[str, np.ndarray]:
    """Return the arrays of predictions.h5; a greater skill makes the true class more probable."""
    rng = np.random.default_rng([recipe["seed"], int(1000 * skill)])
    n, classes = recipe["n_val"] + recipe["n_test"], len(recipe["class_names"])
    labels = np.arange(n) % classes
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += skill + 0.15 * labels
    odds = np.exp(logits)
    return {
        "index": np.arange(n),
        "names": np.array([f"bild-é-{number}.png" for number in range(n)]),
        "labels": labels,
        "split": np.where(np.arange(n) < recipe["n_val"], 1, 2),
        "probabilities": (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32),
    }


def synthetic_history(stages: dict[str, int], seconds: float) -> list[dict]:
    """Return one row per epoch; stages maps each stage to its number of epochs."""
    names = [stage for stage, epochs in stages.items() for _ in range(epochs)]
    return [
        {
            "stage": stage,
            "epoch": epoch,
            "train_loss": 2.3 * 0.85**epoch,
            "train_accuracy": 1 - 0.9 * 0.85**epoch,
            "val_loss": 0.4 + 1.9 * 0.8**epoch,
            "val_accuracy": 0.7 - 0.6 * 0.8**epoch,
            "learning_rate": 0.001,
            "seconds": seconds * epoch / len(names),
        }
        for epoch, stage in enumerate(names, start=1)
    ]


def write_run(folder: Path, *, skill=1.5, stages=None, total_seconds=30.0, **changes) -> Path:
    """Write a run folder; changes replace fields of the recipe."""
    stages = {"train": 12} if stages is None else stages
    recipe = {
        **{
            "scheme": "head:linear",
            "dataset": "cifar10",
            "dataset_title": "CIFAR-10",
            "dataset_note": "",
            "weights": "imagenet",
        },
        **{"backbone": "vgg16", "seed": 0, "n_train": 1600, "n_val": 100, "n_test": 300},
        **{"class_names": list(CIFAR10), "settings": {}, "precision": "bfloat16"},
        **{"image_size": 32, "input_size": 32},
        **{"epochs": sum(stages.values()), "parameters": 12_810, "trainable_parameters": 12_810},
        **{"versions": {}, "machine": {}, "fingerprint": {"scheme": "head:linear"}},
        **changes,
    }
    costs = {"train_seconds": total_seconds * 0.4, "extract_seconds": total_seconds * 0.6}
    costs |= {"extract_images": 2000, "extract_image_seconds": total_seconds * 0.5 / 2000}
    costs |= {"total_seconds": total_seconds, "peak_memory_mb": 812.5, "bytes": 51_240, "stages": {}}
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    (folder / "costs.json").write_text(json.dumps(costs), encoding="utf-8")
    with (folder / "history.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS)
        writer.writeheader()
        writer.writerows(synthetic_history(stages, total_seconds))
    write_predictions(folder / "predictions.h5", **synthetic_predictions(recipe, skill))
    return finish(folder)


def finish(folder: Path) -> Path:
    """Rewrite the manifest, as if a training had written the folder's current content."""
    names = ["recipe.json", "history.csv", "predictions.h5", "costs.json"]
    publish_manifest(folder, {"scheme": "head:linear"}, names)
    return folder


@pytest.fixture
def make_run(tmp_path):
    """Return a function that writes a run folder under tmp_path and reads it back."""

    def make(name="run", **changes):
        return read_run(write_run(tmp_path / name, **changes))

    return make


@pytest.fixture
def run_folder(tmp_path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture
def refinish():
    return finish
