"""Saved models and networks of keras.applications as backbones, as users call them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image
from small_graphs import build
from small_networks import save_model

import headstart as door
from pipeline.datasets.store import ImageStore
from pipeline.runs.result import read_run
from tasks import FineTune, TrainHead

SHARED = {"dataset": "digits", "subset": 100, "precision": "float32"}
OPTIONS = ("--dataset", "digits", "--subset", "100", "--precision", "float32")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--backbone", "MobileNetV2"), "Keras publishes no checksum of its ImageNet weights"),
        (("--backbone", "Efficient"), "unknown backbone 'Efficient'"),
        (("--backbone", "file:none.keras"), "expected a model that Keras saved, but the file is missing"),
        (("--backbone", "Xception", "--input-size", "64"), "Xception: expected images of 71 px or more"),
        (
            ("--backbone", "ConvNeXtTiny", "--engine", "torch"),
            "engine torch: expected vgg16, vgg19 or resnet50",
        ),
        (("--backbone", "NASNetMobile"), "connections of NASNetMobile bypass"),
        (
            ("--backbone", "ConvNeXtTiny", "--recipe", "top_only"),
            "expected at most 4, the blocks of ConvNeXtTiny",
        ),
    ],
)
def test_a_backbone_that_cannot_be_used_is_refused_in_one_line(headstart, options, message):
    code, output, errors = headstart(
        "train", "fine-tune", "--weights", "random", *OPTIONS, "--recipe", "block5", *options
    )
    assert (code, output) == (2, "")
    assert message in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.slow
def test_a_model_with_code_is_refused_in_one_line(headstart, tmp_path, data_folder):
    save_model(tmp_path / "model.keras", code=True)
    code, _, errors = headstart("train", "head", *OPTIONS, "--backbone", f"file:{tmp_path / 'model.keras'}")
    assert code == 2
    assert "expected a model of Keras's own layers, found: " in errors and "Lambda" in errors
    assert len(errors.splitlines()) == 1
    assert not list(data_folder.rglob("*.keras"))


@pytest.mark.slow
def test_a_saved_model_is_a_backbone_for_every_command(headstart, tmp_path, data_folder):
    import keras

    path = tmp_path / "model.keras"
    model = save_model(path)
    head = TrainHead(**SHARED, backbone=f"file:{path}", recipe="logistic", layers=["first", "embedding"])
    assert build(head)
    path.unlink()  # its weights are in the data folder

    store = ImageStore(head.prepared.folder)
    images, places = store.images, {index: row for row, index in enumerate(store.index.tolist())}
    layers = [model.get_layer(name).output for name in ("first", "embedding")]
    maps, vectors = keras.Model(model.input, layers)(images.astype(np.float32))
    expected = np.concatenate([maps.numpy().mean((1, 2)), vectors.numpy()], axis=1)
    features = door.open_features(head.features_task.folder.name).load(["first", "embedding"])
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

    run = read_run(head.folder)
    test = run.split("test")
    standalone = door.load_model(head.folder.name)
    tested = images[[places[index] for index in test.index.tolist()]]
    np.testing.assert_allclose(standalone(tested), test.probabilities, atol=1e-4)
    Image.fromarray(images[0]).save(tmp_path / "picture.png")
    code, output, _ = headstart("predict", head.folder.name, str(tmp_path / "picture.png"))
    (row,) = csv.DictReader(output.splitlines())
    names = run.recipe["class_names"]
    assert (code, row["class"]) == (0, names[int(np.argmax(standalone(images[:1])))])

    table = tmp_path / "features.npy"
    name = head.backbone
    options = ("--backbone", name, "--layers", "embedding", "--image-size", "32", "--precision", "float32")
    code, _, errors = headstart("embed", str(tmp_path / "picture.png"), "--out", str(table), *options)
    assert code == 0, errors
    np.testing.assert_allclose(np.load(table), vectors[:1], rtol=1e-3, atol=1e-4)
    transformer = door.CachedFeatures(name, layers="embedding", precision="float32")
    np.testing.assert_allclose(transformer.fit_transform(images[:3]), vectors[:3], rtol=1e-3, atol=1e-4)
    code, _, errors = headstart("export", head.folder.name, str(tmp_path / "exported.keras"))
    assert code == 0, errors


@pytest.mark.slow
def test_a_saved_model_is_fine_tuned_from_maps_at_its_first_tap(tmp_path):
    save_model(tmp_path / "model.keras")
    small = {"epochs": 1, "top_epochs": 1, "units": [8], "flip": False, "test_views": ["identity"]}
    task = FineTune(
        **SHARED,
        backbone=f"file:{tmp_path / 'model.keras'}",
        recipe="whole",
        freeze_through=1,
        shift=0,
        **small,
    )
    assert build(task)
    recipe = json.loads((task.folder / "recipe.json").read_text(encoding="utf-8"))
    assert recipe["prefix"].startswith("from cached maps of first: 1 view per image")
    second, top = (72 + 1) * 8, (8 + 1) * 8 + 2 * 8 + (8 + 1) * 10
    assert second < recipe["trainable_parameters"] <= second + top
