"""The standalone model of a run reproduces its stored predictions; exports and predictions use it."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.backbones.table import BACKBONES, WEIGHTS
from pipeline.datasets.store import ImageStore
from pipeline.errors import BadInput, DamagedFile
from pipeline.recipes.schemes import find_scheme
from pipeline.recipes.settings import as_dict
from pipeline.runs.result import PREDICTIONS, read_run, write_predictions
from pipeline.runs.spec import RunSpec
from pipeline.runs.train import RUN_FILES, train_run
from pipeline.storage.layout import MODEL
from pipeline.storage.publishing import publish_manifest, read_manifest
from pipeline.use.export import Parity, check_target, export, model_card, parity, stored_predictions
from pipeline.use.network import needs_weights, standalone_model
from pipeline.use.predict import find_pictures, predict

TAPS = BACKBONES["vgg16"].taps
SCRATCH = {"conv_blocks": "conv - batch norm - maxpool 4", "filters": [4], "units": [8], "epochs": 1}
RUNS = {
    "head:linear": {"epochs": 2, "layers": list(TAPS), "views": ["identity", "hflip"]},
    "head:logistic": {"layers": ["block3_pool"]},
    "head:knn": {"layers": ["block4_pool", "block5_pool"]},
    "fine-tune:block5": {"epochs": 1, "top_epochs": 1, "units": [8], "prefix": "images"},
    "from-scratch:lesson": {**SCRATCH, "test_views": ["identity", "hflip"]},
}


@pytest.fixture(scope="session")
def trained(shelf, digits, weights, features):
    """Return a function that trains a run of RUNS once, in float32, and returns its folder."""

    def make(text: str) -> Path:
        folder = shelf / "used" / text.replace(":", "-")
        if folder.exists():
            return folder
        scheme, name = find_scheme(text)
        settings = as_dict(scheme.recipe(name, RUNS[text]))
        common = {"settings": settings, "seed": 3, "precision": "float32"}
        pretrained = bool(scheme.needs)
        columns = {
            "layers": settings.get("layers", ["block5_pool"]),
            "views": settings.get("views", ["identity"]),
        }
        cache = {"features": {**read_manifest(features_base(features)).fingerprint, **columns}}
        spec = RunSpec(
            **{"scheme": scheme.name, "recipe": name, "row": name, **common},
            weights="random" if pretrained else "none",
            backbone="vgg16" if pretrained else "none",
            fingerprint={"scheme": text, **common, **(cache if pretrained else {})},
        )
        inputs = {"weights": str(weights), "features": str(features)} if pretrained else {}
        train_run(spec.as_json(), {"dataset": str(digits), **inputs}, str(folder))
        return folder

    return make


def features_base(features: Path) -> Path:
    """Return a section of a cache; its fingerprint includes that of the cache."""
    return next(path.parent for path in sorted(features.glob("*/manifest.json")))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, marks=pytest.mark.slow if text in ("head:logistic", "fine-tune:block5") else ())
        for text in RUNS
    ],
)
def test_the_standalone_model_reproduces_stored_predictions_of_every_scheme(trained, weights, digits, text):
    run = read_run(trained(text))
    assert needs_weights(run.recipe) == text.startswith("head:")
    model = standalone_model(run, weights if needs_weights(run.recipe) else None)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.input.dtype == "uint8"
    pixels, stored = stored_predictions(run, ImageStore(digits))
    assert len(stored) == len(run.split("test")) + len(run.split("val"))
    result = parity(model.predict(pixels, verbose=0), stored, "float32")
    assert result.holds, result
    assert result.distance < 1e-4


@pytest.mark.parametrize(
    ("weights", "credit"),
    [
        (WEIGHTS["vgg16", "imagenet"].identity, "Visual Geometry Group, University of Oxford, CC BY 4.0"),
        ("he_normal:0", None),
    ],
)
def test_a_card_gives_credit_for_weights_and_data(make_run, weights, credit):
    run = make_run(fingerprint={"scheme": "head:linear", "features": {"weights": weights}})
    card = model_card(run, Parity(images=300, distance=0.0, agreement=1.0, precision="float32"))
    assert "| credit for the data | Alex Krizhevsky, Learning Multiple Layers of Features" in card
    assert ("| credit for the weights |" in card) == (credit is not None)
    assert credit is None or f"| credit for the weights | {credit} |" in card


def test_an_export_is_one_file_with_class_names_and_a_card_that_plain_keras_loads(
    trained, weights, digits, tmp_path
):
    out = tmp_path / "model.keras"
    result = export(str(trained("head:linear")), str(weights), str(digits), str(out), ["keras"])
    assert set(result["files"]) == {str(path) for path in tmp_path.iterdir()}
    with zipfile.ZipFile(out) as file:
        assert json.loads(file.read("class_names.json")) == list("0123456789")
        assert file.read("card.md").decode() == (tmp_path / "model.card.md").read_text()
    card = (tmp_path / "model.card.md").read_text()
    assert "head:linear" in card
    assert "accuracy on test" in card
    assert result["parity"]["keras"] in card
    import keras

    model = keras.models.load_model(out)
    pixels, stored = stored_predictions(read_run(trained("head:linear")), ImageStore(digits))
    np.testing.assert_allclose(model.predict(pixels[:7], verbose=0), stored[:7], atol=1e-4)


@pytest.mark.slow
def test_all_formats_are_exported_and_checked(trained, digits, tmp_path):
    formats = ["keras", "saved_model", "tflite"]
    folder = trained("from-scratch:lesson")
    result = export(str(folder), None, str(digits), str(tmp_path / "model.keras"), formats)
    assert list(result["parity"]) == formats
    assert (tmp_path / "model.saved_model" / "saved_model.pb").is_file()
    assert (tmp_path / "model.tflite").stat().st_size > 10_000
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_export_with_different_predictions_fails_and_leaves_no_files(trained, digits, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(trained("from-scratch:lesson"), folder)
    run = read_run(folder)
    val, test = run.split("val"), run.split("test")
    write_predictions(
        folder / PREDICTIONS,
        np.concatenate([val.index, test.index]),
        [*val.names, *test.names],
        np.concatenate([val.labels, test.labels]),
        np.concatenate([np.full(len(val), 1), np.full(len(test), 2)]),
        np.concatenate([val.probabilities, np.roll(test.probabilities, 1, axis=1)]),
    )
    publish_manifest(folder, read_manifest(folder).fingerprint, RUN_FILES)
    (tmp_path / "out").mkdir()
    with pytest.raises(DamagedFile, match="keras export of run does not reproduce .*: .* same class on"):
        export(str(folder), None, str(digits), str(tmp_path / "out" / "model.keras"), ["keras"])
    assert list((tmp_path / "out").iterdir()) == []


def test_parity_bounds_both_the_distance_and_the_classes():
    stored = np.tile(np.float32([0.6, 0.4]), (100, 1))
    close = stored + np.float32([0.0005, -0.0005])
    swapped = np.where(np.arange(100)[:, None] < 4, stored[:, ::-1], stored)
    assert parity(stored, stored, "float32").holds
    assert parity(close, stored, "float32").holds
    assert not parity(stored + np.float32([0.01, -0.01]), stored, "float32").holds
    assert parity(stored + np.float32([0.01, -0.01]), stored, "bfloat16").holds
    assert not parity(swapped, stored, "bfloat16").holds


@pytest.mark.parametrize(
    ("out", "formats", "message"),
    [
        ("model.h5", ["keras"], r"expected a file name ending in \.keras"),
        ("model.keras", ["onnx"], "unknown format 'onnx': expected one of keras, saved_model, tflite"),
        ("old.keras", ["saved_model"], "the folder already exists"),
    ],
)
def test_an_invalid_path_or_format_of_an_export_raises_an_error(tmp_path, out, formats, message):
    (tmp_path / "old.saved_model").mkdir()
    with pytest.raises(BadInput, match=message):
        check_target(str(tmp_path / out), formats)


def test_pictures_are_classified_and_unreadable_ones_are_listed(trained, digits, tmp_path):
    from PIL import Image

    folder, store = trained("from-scratch:lesson"), ImageStore(digits)
    run = read_run(folder)
    pixels, stored = stored_predictions(run, store)
    for number in range(3):
        Image.fromarray(pixels[number]).save(tmp_path / f"{number}.png")
    (tmp_path / "1a.png").write_bytes(b"broken")
    paths = find_pictures([str(tmp_path)])
    result = predict(str(folder), None, paths)
    assert [Path(row["path"]).name for row in result["rows"]] == ["0.png", "1.png", "2.png"]
    assert [Path(path).name for path, _ in result["unreadable"]] == ["1a.png"]
    for row, expected in zip(result["rows"], stored, strict=False):
        best = np.argsort(-expected)[:3]
        assert [name for name, _ in row["top"]] == [str(number) for number in best]
        np.testing.assert_allclose([value for _, value in row["top"]], expected[best], atol=1e-4)
        assert [row["class"], row["probability"]] == row["top"][0]


def test_paths_without_pictures_raise_an_error(tmp_path):
    with pytest.raises(BadInput, match="expected a picture or a folder, but it does not exist"):
        find_pictures([str(tmp_path / "absent")])
    with pytest.raises(BadInput, match="expected pictures .* got none"):
        find_pictures([str(tmp_path)])


@pytest.mark.parametrize("content", ["lambda", "garbage"])
def test_fault_25_model_with_custom_code_raises_an_error_and_the_code_is_not_run(trained, tmp_path, content):
    import keras

    folder, trace = shutil.copytree(trained("from-scratch:lesson"), tmp_path / "run"), tmp_path / "trace"
    if content == "lambda":
        pixels, name = keras.Input((32, 32, 3)), str(trace)
        layer = keras.layers.Lambda(lambda x: [x, open(name, "w")][0])  # noqa: PTH123, SIM115
        keras.Model(pixels, layer(pixels)).save(folder / MODEL)
        trace.unlink(missing_ok=True)
    else:
        (folder / MODEL).write_bytes(b"PK" + bytes(500))
    manifest = read_manifest(folder)
    publish_manifest(folder, manifest.fingerprint, list(manifest.files), manifest.facts)
    with pytest.raises(DamagedFile, match=r"model.keras: expected a Keras model without custom code"):
        standalone_model(read_run(folder))
    assert not trace.exists()
