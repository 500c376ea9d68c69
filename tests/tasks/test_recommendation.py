"""The recommendation for digits and for photographs, measured with random weights in seconds."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from photographs import write_photographs
from PIL import Image
from small_graphs import build

from pipeline.datasets.store import ImageStore
from pipeline.storage.publishing import read_manifest
from tasks import Recommend
from tasks.recommendation import SIZES


def test_sizes_are_in_the_fingerprint_with_the_images_own(tmp_path, data_folder):
    folder = f"folder:{write_photographs(tmp_path / 'photographs', each=6)}"
    task = Recommend(dataset=folder, image_size=200, weights="random")
    assert [base["input_size"] for base in task.fingerprint["features"]] == sorted({*SIZES, 200})
    assert task.folder.parent == data_folder / "reports" / "recommendation"


@pytest.mark.slow
def test_a_recommendation_measures_every_size_without_test_images(data_folder, monkeypatch, headstart):
    monkeypatch.setattr("tasks.recommendation.SIZES", (32, 48))
    options = ("--dataset", "digits", "--subset", "300", "--weights", "random")
    code, output, errors = headstart("recommend", *options)
    assert code == 0, errors
    (folder,) = (data_folder / "reports" / "recommendation").iterdir()
    table = pd.read_csv(folder / "recommendation.csv")
    assert list(table.groupby("input_size").size()) == [15, 15]
    assert (
        (table["accuracy_low"] <= table["accuracy"]) & (table["accuracy"] <= table["accuracy_high"])
    ).all()
    stored = json.loads((folder / "recommendation.json").read_text())
    images = ImageStore(next((data_folder / "datasets").iterdir()))
    assert 50 <= stored["n"] <= len(images) - images.counts["test"]
    assert all(command in output for command in stored["commands"])
    for command, scheme in zip(stored["commands"], ("tuned-head", "fine-tune"), strict=True):
        assert command.startswith(f"headstart train {scheme} --recipe ")
        assert "--dataset digits --subset 300 --input-size " in command
    assert len(np.unique(np.asarray(Image.open(folder / "recommendation.png").convert("L")))) > 20
    assert set(read_manifest(folder).files) == {
        f"recommendation.{suffix}" for suffix in ("csv", "json", "png", "txt")
    }
    assert headstart("recommend", *options)[1] == output  # nothing is measured again


@pytest.mark.slow
def test_few_photographs_are_recommended_at_their_own_size(tmp_path, data_folder, monkeypatch):
    monkeypatch.setattr("tasks.recommendation.SIZES", (32, 64))
    folder = f"folder:{write_photographs(tmp_path / 'photographs', each=18)}"
    task = Recommend(dataset=folder, weights="random")
    assert build(task)
    choice = json.loads((task.folder / "recommendation.json").read_text())["choice"]
    assert choice["input_size"] == 224
