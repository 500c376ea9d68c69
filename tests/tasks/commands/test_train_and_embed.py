"""`headstart train` ends with the result; `headstart embed` writes features to files of every format."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from trees import only

from pipeline.datasets.store import ImageStore
from tasks.commands import build

DATA = ("--dataset", "digits", "--subset", "100", "--weights", "random", "--precision", "float32")


@pytest.mark.slow
def test_training_ends_with_the_result_and_lists_each_finished_task_with_its_number(
    data_folder, headstart, monkeypatch
):
    monkeypatch.setattr(build, "ANNOUNCED_SECONDS", 0.0)
    options = ("--recipe", "dense", "--epochs", "3", "--layers", "block1_pool", *DATA)
    code, output, errors = headstart("train", "head", *options)
    assert code == 0, errors
    run = only(data_folder, "runs/head-dense-*")
    assert output.startswith(f"{run.name}\n")
    for pattern in (
        r"val accuracy \d+\.\d % \(\d+\.\d–\d+\.\d\), test accuracy \d+\.\d % \(\d+\.\d–\d+\.\d\)",
        r"time: .*, of which training ",
        rf"files: {run}\n  plots: .*/reports/runs/{run.name}/plots\n",
        rf"Next: headstart predict {run.name} PICTURES",
    ):
        assert re.search(pattern, output), pattern
    assert "nan" not in output
    numbers = [int(number) for number in re.findall(r"^ *(\d+)/6 +[\d.]+ s  \w+", errors, re.MULTILINE)]
    assert numbers == sorted(numbers) and numbers[-1] == 6
    assert "MakeWeights" in errors and "  0.0 s" not in errors
    assert re.search(r"^ +3/6 +started  ExtractFeatures +features/", errors, re.MULTILINE)
    assert headstart("train", "head", *options)[1] == output  # nothing is trained again
    assert json.loads((run / "recipe.json").read_text())["settings"]["epochs"] == 3


def test_help_shows_the_values_of_the_recipe_and_no_option_twice(headstart, capsys):
    with pytest.raises(SystemExit):
        headstart("train", "fine-tune", "--recipe", "whole", "--help")
    text = capsys.readouterr().out
    options = re.findall(r"^  (--[a-z-]+) VALUE", text, re.MULTILINE)
    assert len(options) == len(set(options)) > 30
    assert re.search(r"--epochs VALUE +passes over the training images; [^(]+\(default:\s+20\)", text)
    titles = re.findall(r"^(\w+):$", text, re.MULTILINE)
    assert [title for title in titles if title in ("data", "features", "training", "settings")] == [
        "data",
        "features",
        "training",
    ]


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "bad.jpg").write_text("no picture")
    return folder


@pytest.mark.slow
def test_pictures_are_embedded_once_in_every_format(pictures, tmp_path, data_folder, headstart):
    options = (
        "--weights",
        "random",
        "--image-size",
        "32",
        "--precision",
        "float32",
        "--layers",
        "block2_pool,block1_pool",
    )
    code, output, errors = headstart("embed", str(pictures), "--out", str(tmp_path / "a.npy"), *options)
    assert code == 1 and "bad.jpg: not a readable picture" in errors
    assert output == f"{tmp_path / 'a.npy'}: 3 pictures, 192 features\n"
    features = np.load(tmp_path / "a.npy")
    names = json.loads((tmp_path / "a.names.json").read_text())["name"]
    assert names == [str(pictures / f"{number}.png") for number in range(3)]
    (pictures / "0.png").rename(pictures / "renamed.png")
    before = sorted(path.name for path in data_folder.glob("content/*/*"))
    for suffix in ("h5", "parquet"):
        assert headstart("embed", str(pictures), "--out", str(tmp_path / f"a.{suffix}"), *options)[0] == 1
    assert sorted(path.name for path in data_folder.glob("content/*/*")) == before
    order = [1, 2, 0]  # renamed.png comes last
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(file["features"][:], features[order])
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert np.array_equal(np.stack(frame["features"]), features[order])
    assert frame["name"].iloc[-1].endswith("renamed.png")


def test_a_data_set_is_embedded_with_labels_and_splits(little, tmp_path, headstart):
    options = (*DATA, "--layers", "block1_pool")
    code, output, errors = headstart("embed", "--out", str(tmp_path / "digits.h5"), *options)
    assert code == 0, errors
    images = ImageStore(only(little, "datasets/digits-100-*"))
    with h5py.File(tmp_path / "digits.h5") as file:
        assert file["features"].shape == (100, 64)
        assert list(file["label"][:]) == images.labels.tolist()
        assert set(file["split"].asstr()[:]) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "features.csv", "--dataset", "digits"], "expected a file that ends in .npy, .h5"),
        (["--out", "features.h5"], "expected either pictures or --dataset"),
        (
            ["photo.png", "--out", "features.h5", "--dataset", "digits"],
            "expected either pictures or --dataset",
        ),
        (["nowhere.png", "--out", "features.h5"], "'nowhere.png': expected a picture or a folder"),
    ],
)
def test_bad_requests_are_refused_in_one_line(arguments, message, headstart, data_folder):
    code, _, errors = headstart("embed", *arguments)
    assert code == 2 and message in errors and len(errors.strip().splitlines()) == 1
