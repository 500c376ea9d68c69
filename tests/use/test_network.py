"""The standalone model of a run reproduces its stored predictions; exports and predictions use it."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from pipeline.backbones.table import BACKBONES, WEIGHTS
from pipeline.datasets.folders import find_pictures
from pipeline.datasets.pictures import fit_picture
from pipeline.datasets.store import ImageStore
from pipeline.errors import BadInput, DamagedFile, HeadstartError
from pipeline.recipes.schemes import find_scheme
from pipeline.recipes.settings import as_dict
from pipeline.runs.result import PREDICTIONS, read_run, write_predictions
from pipeline.runs.spec import RunSpec
from pipeline.runs.train import RUN_FILES, train_run
from pipeline.storage.layout import MODEL
from pipeline.storage.publishing import publish_manifest, read_manifest
from pipeline.use import export as exports
from pipeline.use import without_project
from pipeline.use.export import check_target, export, model_card, parity, stored_predictions
from pipeline.use.network import fit_images, needs_weights, resize_square, standalone_model
from pipeline.use.predict import predict

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
            input_size=32,
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
    images = ImageStore(digits)
    rows, stored = stored_predictions(run, images)
    assert len(stored) == len(run.split("test")) + len(run.split("val"))
    probabilities = model.predict(images.images[rows], verbose=0)
    holds, text = parity(probabilities, stored, "float32")
    assert holds, text
    assert np.abs(probabilities - stored).sum(axis=1).mean() / 2 < 1e-4


@pytest.mark.parametrize(
    ("weights", "credit"),
    [
        (WEIGHTS["vgg16", "imagenet"].identity, "Visual Geometry Group, University of Oxford, CC BY 4.0"),
        ("he_normal:0", None),
    ],
)
def test_a_card_gives_credit_for_weights_and_data(make_run, weights, credit):
    run = make_run(fingerprint={"scheme": "head:linear", "features": {"weights": weights}})
    card = model_card(run, {"keras": "300 images: same class on 100.00 %"})
    assert "| credit for the data | Alex Krizhevsky, Learning Multiple Layers of Features" in card
    assert ("| credit for the weights |" in card) == (credit is not None)
    assert credit is None or f"| credit for the weights | {credit} |" in card


def test_an_export_is_one_file_with_class_names_and_a_card_that_plain_keras_loads(
    trained, weights, digits, tmp_path, monkeypatch
):
    run, out = trained("head:knn"), tmp_path / "model.keras"
    monkeypatch.chdir(tmp_path)
    result = export(str(run), str(weights), str(digits), "model.keras", ["keras"])
    assert set(result["files"]) == {str(path) for path in tmp_path.iterdir()}
    with zipfile.ZipFile(out) as file:
        assert json.loads(file.read("class_names.json")) == list("0123456789")
        assert file.read("card.md").decode() == (tmp_path / "model.card.md").read_text()
    card = (tmp_path / "model.card.md").read_text()
    assert "head:knn" in card
    assert "accuracy on test" in card
    assert result["parity"]["keras"] in card
    model, images = keras.models.load_model(out), ImageStore(digits)
    rows, stored = stored_predictions(read_run(run), images)
    np.testing.assert_allclose(model.predict(images.images[rows[:7]], verbose=0), stored[:7], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["head:knn", "from-scratch:lesson"])
def test_all_formats_are_exported_and_checked_without_the_project(trained, weights, digits, tmp_path, text):
    formats = ["keras", "saved_model", "tflite"]
    needed = str(weights) if text.startswith("head") else None
    out = tmp_path / "model.keras"
    result = export(str(trained(text)), needed, str(digits), str(out), formats)
    assert list(result["parity"]) == formats
    assert (tmp_path / "model.saved_model" / "saved_model.pb").is_file()
    assert (tmp_path / "model.tflite").stat().st_size > 10_000
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    card = (tmp_path / "model.card.md").read_text()
    assert "TensorFlow Lite: images (n, 32, 32, 3), uint8, and nothing else." in card
    images = ImageStore(digits).images[:5]
    predictions = {
        "keras": lambda pixels: without_project.load_keras(str(out))(pixels),
        "saved_model": without_project.load_saved_model(str(tmp_path / "model.saved_model")),
    }
    large = images.repeat(3, axis=1).repeat(3, axis=2)
    for predict_images in predictions.values():
        expected = np.asarray(predict_images(images))
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(predict_images(large), expected, atol=0.02)  # any size
        np.testing.assert_allclose(predict_images(np.float32(images)), expected, atol=1e-6)  # any type
        for wrong in (images / np.float32(255), images - np.float32(117), images * np.float32(0.5)):
            assert np.isnan(predict_images(wrong.astype(np.float32))).all()
    tflite = without_project.load_tflite(str(tmp_path / "model.tflite"))
    np.testing.assert_allclose(tflite(images), predictions["keras"](images), atol=1e-4)
    with pytest.raises(ValueError, match="type"):
        tflite(np.float32(images))


@pytest.mark.slow
def test_several_formats_are_published_together_or_not_at_all(trained, digits, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("loc(fused[compiler text\n" * 500)

    out = str(tmp_path / "m.keras")
    monkeypatch.setitem(exports.FORMATS, "tflite", fail)
    with pytest.raises(HeadstartError, match=r"cannot be written as tflite \(loc.fused.compiler text\)$"):
        export(str(trained("from-scratch:lesson")), None, str(digits), out, ["keras", "tflite"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_export_that_needs_the_project_fails(trained, digits, tmp_path, monkeypatch):
    def write(model, path):
        pixels = model.input
        keras.Model(pixels, ProjectLayer()(model(pixels))).save(path)

    monkeypatch.setitem(exports.FORMATS, "keras", write)
    with pytest.raises(HeadstartError, match="the keras export does not load without headstart"):
        export(str(trained("from-scratch:lesson")), None, str(digits), str(tmp_path / "m.keras"), ["keras"])
    assert list(tmp_path.iterdir()) == []


@keras.saving.register_keras_serializable(package="headstart")
class ProjectLayer(keras.layers.Layer):
    def call(self, x):
        return x


@pytest.mark.parametrize("size", [(40, 60), (33, 32), (200, 90), (32, 32)])
def test_the_graph_fits_images_as_the_reader_fits_pictures(size):
    from PIL import Image

    rows, columns = np.mgrid[: size[1], : size[0]]
    waves = np.stack(
        [np.sin(rows / 5) + np.cos(columns / 7), np.sin(columns / 9), np.cos(rows / 11)], axis=-1
    )
    noise = np.random.default_rng(0).normal(0, 10, waves.shape)
    pixels = np.clip(60 * waves + 128 + noise, 0, 255).astype(np.uint8)
    read = fit_picture(Image.fromarray(pixels), 32).astype(float)
    images = keras.Input((None, None, 3))
    in_graph = np.asarray(keras.Model(images, fit_images(images, 32))(pixels[None].astype(np.float32)))[0]
    assert np.abs(read - in_graph).mean() <= 1
    assert size != (32, 32) or (read == in_graph).all()


@pytest.mark.parametrize(("source", "target"), [(32, 96), (224, 64), (50, 50), (32, 33)])
def test_matrix_resizing_equals_that_of_keras(source, target):
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 256, (2, source, source, 3)).astype(np.float32)
    expected = tf.image.resize(images, (target, target), "bilinear", antialias=True)
    np.testing.assert_allclose(resize_square(tf.constant(images), target), expected, atol=1e-3)


@pytest.mark.slow
def test_an_export_with_different_predictions_fails_and_leaves_no_files(trained, digits, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(trained("from-scratch:lesson"), folder)
    run = read_run(folder)
    val, test = run.split("val"), run.split("test")
    write_predictions(
        folder / PREDICTIONS,
        index=np.concatenate([val.index, test.index]),
        names=[*val.names, *test.names],
        labels=np.concatenate([val.labels, test.labels]),
        split=np.concatenate([np.full(len(val), 1), np.full(len(test), 2)]),
        probabilities=np.concatenate([val.probabilities, np.roll(test.probabilities, 1, axis=1)]),
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
    assert parity(stored, stored, "float32")[0]
    assert parity(close, stored, "float32")[0]
    assert not parity(stored + np.float32([0.01, -0.01]), stored, "float32")[0]
    assert parity(stored + np.float32([0.01, -0.01]), stored, "bfloat16")[0]
    assert not parity(swapped, stored, "bfloat16")[0]


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
    rows, stored = stored_predictions(run, store)
    for number in range(3):
        Image.fromarray(store.images[rows[number]]).save(tmp_path / f"{number}.png")
    (tmp_path / "1a.png").write_bytes(b"broken")
    (tmp_path / "2.png").rename(tmp_path / "2.tif")  # the content decides among formats that are read
    (tmp_path / "3.heic").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    paths = find_pictures([str(tmp_path)])
    result = predict(str(folder), None, paths)
    assert [Path(row["path"]).name for row in result["rows"]] == ["0.png", "1.png", "2.tif"]
    broken, phone = (f"{tmp_path / name}: " for name in ("1a.png", "3.heic"))
    assert result["unreadable"][0].startswith(f"{broken}not a readable picture")
    assert result["unreadable"][1:] == [f"{phone}.heic is not read; convert it to PNG or JPEG"]
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
