"""Networks of keras.applications and saved models as backbones compute what Keras computes."""

from __future__ import annotations

import inspect
import zipfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from write_applications import FILES, constructors, facts_of

from pipeline.backbones.engines import ENGINES, PassSpec
from pipeline.backbones.forward import forward_function
from pipeline.backbones.model import build_backbone, keras_taps, output_of
from pipeline.backbones.saved_models import MODELS_VARIABLE
from pipeline.backbones.table import APPLICATIONS, BACKBONES, WEIGHTS, Backbone, choose_weights
from pipeline.backbones.weights import obtain_weights, random_arrays, read_arrays, read_weights
from pipeline.errors import BadInput, DamagedFile
from pipeline.features.sections import cache_fingerprint, network_size, parse_layers
from pipeline.schemes.fine_tune import blocks_of

FAST = ("MobileNetV3Small", "ResNet50V2")
SMALLEST = (  # of the other families
    *("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2"),
    *("InceptionV3", "NASNetMobile", "ResNet101", "Xception"),
)
families = pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SMALLEST)]
)


def images_of(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.uint8)


def nonzero_statistics(arrays: dict) -> dict:
    """Return weights in which zeros and ones are other values, so that no weight goes unnoticed."""
    generator = np.random.default_rng(1)

    def changed(values: np.ndarray) -> np.ndarray:
        constant = np.ptp(values) == 0
        return generator.uniform(0.5, 1.0, values.shape).astype(np.float32) if constant else values

    return {layer: tuple(map(changed, weights)) for layer, weights in arrays.items()}


def kerass_own(row: Backbone, size: int, file: Path):
    """Return Keras's network with the weights of a file, built as for its own ImageNet weights."""
    constructor = constructors()[row.name]
    with patch(f"{FILES}.get_file", lambda *_, **__: str(file)):  # the download alone is replaced
        return constructor(include_top=False, weights="imagenet", input_shape=(size, size, 3))


def preprocess(row: Backbone, images: np.ndarray) -> np.ndarray:
    module = inspect.getmodule(inspect.unwrap(constructors()[row.name]))
    return module.preprocess_input(images.astype(np.float32))


def assert_close(actual, expected, tolerance: float = 1e-4) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(expected).max() > 0
    assert np.linalg.norm(actual - expected) < tolerance * np.linalg.norm(expected)


@families
def test_features_from_a_file_of_weights_are_kerass_own(name, tmp_path):
    import keras

    keras.config.set_dtype_policy("float32")
    row = BACKBONES[name]
    # Keras loads the NASNets' ImageNet weights at their own size only.
    size = row.default_size if name == "NASNetMobile" else row.minimum_size + 1
    file = tmp_path / "file.weights.h5"
    keras.utils.clear_session()  # layers without a name are numbered from the first, as in the table
    network = constructors()[name](include_top=False, weights=None, input_shape=(size, size, 3))
    for layer, weights in nonzero_statistics(random_arrays(row, seed=0)).items():
        network.get_layer(layer).set_weights(weights)
    network.save_weights(file)
    keras.utils.clear_session()
    reference, images = kerass_own(row, size, file), images_of(size)
    taps = keras.Model(reference.input, [output_of(reference, tap) for tap in row.taps])
    expected = taps(preprocess(row, images))

    arrays = read_arrays(file, row)
    spec = PassSpec(size, size, [(tap, "none") for tap in row.taps], "float32", 2)
    for tap, maps, reference in zip(
        row.taps, forward_function(row, arrays, spec)(images), expected, strict=True
    ):
        assert maps.shape[1:] == row.map_shape(tap, size)
        assert_close(maps, reference)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAST, *SMALLEST])
def test_a_network_from_pixels_computes_the_same_as_the_frozen_one(name):
    row = BACKBONES[name]
    size, arrays = row.minimum_size + 1, nonzero_statistics(random_arrays(row, seed=0))
    images = images_of(size)
    spec = PassSpec(size, size, [(row.taps[-1], "none")], "float32", 2)
    (maps,) = forward_function(row, arrays, spec)(images)
    assert_close(build_backbone(row, arrays, input_size=size)(images), maps)


def test_the_taps_of_a_network_cut_it_into_blocks():
    row = BACKBONES["MobileNetV3Small"]
    network = build_backbone(row, random_arrays(row, seed=0), input_size=33)
    assert row.bypassed == ""
    assert set(blocks_of(network, row).values()) == set(range(1, len(row.taps) + 1))
    assert network.count_params() == row.output(row.taps[-1]).parameters


def test_applications_are_those_of_keras_with_its_own_checksums():
    assert set(APPLICATIONS) == set(constructors())
    modules = {inspect.getmodule(inspect.unwrap(constructor)) for constructor in constructors().values()}
    sources = "".join(map(inspect.getsource, modules))
    assert [name for name, facts in APPLICATIONS.items() if not facts] == ["MobileNet", "MobileNetV2"]
    for name in set(APPLICATIONS) - {"MobileNet", "MobileNetV2"}:
        row = WEIGHTS[name, "imagenet"]
        (algorithm, digest), (url,) = row.identity.split(":"), row.urls
        assert digest in sources and len(digest) == {"md5": 32, "sha256": 64}[algorithm]
        assert url.startswith("https://storage.googleapis.com/")


@families
@pytest.mark.parametrize(
    "more", [0, pytest.param(13, marks=pytest.mark.slow), pytest.param(38, marks=pytest.mark.slow)]
)
def test_map_shapes_are_those_of_kerass_network(name, more):
    row = BACKBONES[name]
    size = row.minimum_size + more
    network = keras_taps(row, {}, size, list(row.taps), "float32")
    assert network.output_shape == [(None, *row.map_shape(tap, size)) for tap in row.taps]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAST, *SMALLEST])
def test_facts_of_applications_are_those_of_the_installed_keras(name):
    assert facts_of(name) == APPLICATIONS[name]


def test_kerass_name_of_a_row_of_this_project_is_that_row():
    assert BACKBONES["VGG16"] is BACKBONES["vgg16"]
    assert BACKBONES["ResNet50"] is BACKBONES["resnet50"]


def test_the_default_size_is_kerass_and_a_row_of_this_project_takes_the_images_size():
    assert network_size({"image_size": 64}, None, BACKBONES["InceptionV3"]) == 299
    assert network_size({"image_size": 64}, 96, BACKBONES["InceptionV3"]) == 96
    assert network_size({"image_size": 64}, None, BACKBONES["vgg16"]) == 64
    with pytest.raises(BadInput, match="InceptionV3: expected images of 75 px or more, received 64"):
        network_size({"image_size": 64}, 64, BACKBONES["InceptionV3"])
    with pytest.raises(BadInput, match="input size: expected 32 to 299 pixels, received 300"):
        network_size({"image_size": 64}, 300, BACKBONES["InceptionV3"])


def test_a_network_without_a_checksum_is_refused_with_the_reason():
    with pytest.raises(BadInput, match="MobileNet: Keras publishes no checksum of its ImageNet weights"):
        BACKBONES["MobileNet"]
    with pytest.raises(
        BadInput, match="unknown backbone 'EfficientNetV9': expected one of vgg16, vgg19, resnet50"
    ):
        BACKBONES["EfficientNetV9"]


def test_other_engines_refuse_a_network_that_they_do_not_compute():
    choice = choose_weights("random", "MobileNetV3Small")
    with pytest.raises(
        BadInput, match="engine torch: expected vgg16, vgg19 or resnet50, received MobileNetV3"
    ):
        cache_fingerprint(
            {"image_size": 32},
            backbone="MobileNetV3Small",
            weights=choice,
            precision="float32",
            engine="torch",
        )
    assert ENGINES["torch"].describe_algorithms(BACKBONES["resnet50"]) == "PyTorch, channels last"


@pytest.mark.filterwarnings("ignore:Skipping nested container")  # Keras names every layer
def test_weights_of_another_network_are_refused(tmp_path):
    import keras

    pixels = keras.Input((8, 8, 3))
    keras.Model(pixels, keras.layers.Conv2D(2, 3)(pixels)).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(DamagedFile, match="expected MobileNetV3Small without code, found: "):
        read_arrays(tmp_path / "other.weights.h5", BACKBONES["MobileNetV3Small"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small model that was trained to tell bright from dark images, and its file."""
    import keras

    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 128, (64, 32, 32, 3)).astype(np.float32)
    labels = np.arange(64) % 2
    images += 127 * labels[:, None, None, None]
    normalize = keras.layers.Normalization(name="normalize")
    normalize.adapt(images)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            normalize,
            keras.layers.Conv2D(4, 3, activation="relu", padding="same", name="first"),
            keras.layers.MaxPooling2D(name="pool"),
            keras.layers.Conv2D(8, 3, activation="relu", name="second"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(6, activation="relu", name="vector"),
            keras.layers.Dense(2, activation="softmax", name="classes"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images, labels, epochs=3, verbose=0)
    path = tmp_path_factory.mktemp("model") / "my model.keras"
    model.save(path)
    return model, path


@pytest.fixture(scope="module")
def described(trained, tmp_path_factory):
    """The row of that model, described in a child process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(MODELS_VARIABLE, str(tmp_path_factory.mktemp("models")))
        yield BACKBONES[f"file:{trained[1]}"]


def test_taps_of_a_saved_model_are_its_maps_before_each_reduction(described):
    assert described.taps == ("first", "second")
    assert described.name.startswith("my_model-") and described.title == "my model.keras"
    assert [described.map_shape(layer, 32) for layer in ("first", "pool", "second", "vector")] == [
        *((32, 32, 4), (16, 16, 4), (14, 14, 8), (1, 1, 6))
    ]
    assert described.output("second").parameters == 7 + (27 + 1) * 4 + (36 + 1) * 8
    assert described.multiply_adds("second", 32) == pytest.approx(27 * 4 * 32**2 + 36 * 8 * 14**2, rel=1e-3)
    assert parse_layers("vector,first", described.name) == ("first", "vector")


def test_features_and_predictions_of_a_saved_model_are_kerass(described, trained, tmp_path):
    import keras

    model, _ = trained
    choice = choose_weights("imagenet", described.name)
    obtain_weights(
        {"backbone": described.name, "weights": choice.identity}, choice.location, str(tmp_path), "", []
    )
    arrays, images = read_weights(tmp_path), images_of(32)
    layers = ("first", "second", "vector", "classes")
    taps = keras.Model(model.inputs, [model.get_layer(layer).output for layer in layers])
    expected = [maps.numpy() for maps in taps(images.astype(np.float32))]
    spec = PassSpec(32, 32, [(layer, "average") for layer in layers], "float32", 2)
    for features, maps in zip(forward_function(described, arrays, spec)(images), expected, strict=True):
        assert_close(features, maps.mean((1, 2)) if maps.ndim == 4 else maps, 1e-5)
    assert_close(build_backbone(described, arrays, input_size=32)(images), expected[1], 1e-5)
    bfloat16 = PassSpec(32, 32, [("second", "average")], "bfloat16", 2)
    (features,) = forward_function(described, arrays, bfloat16)(images)
    assert_close(features, expected[1].mean((1, 2)), 0.04)
    assert not np.array_equal(features, expected[1].mean((1, 2)))


def test_a_saved_model_is_found_by_its_name_and_follows_its_file(described, trained, tmp_path):
    assert BACKBONES[described.name] == described
    moved = tmp_path / "my model.keras"
    moved.write_bytes(trained[1].read_bytes())
    assert BACKBONES[f"file:{moved}"].name == described.name
    assert choose_weights("imagenet", described.name).location == str(moved)
    assert BACKBONES[f"file:{trained[1]}"] == described


def test_a_saved_model_takes_its_own_weights_or_random_ones(described):
    own = choose_weights("imagenet", described.name)
    assert own == choose_weights(own.name, described.name)
    assert choose_weights("random:3", described.name).identity == "he_normal:3"
    with pytest.raises(BadInput, match=r"unknown weights '/w\.h5'"):
        choose_weights("/w.h5", described.name)
    with pytest.raises(BadInput, match="my model.keras: expected images of 32 px, received 64"):
        network_size({"image_size": 64}, 64, described)
    assert network_size({"image_size": 64}, None, described) == 32


@pytest.mark.slow
def test_one_changed_weight_is_another_backbone(described, trained, tmp_path):
    import keras

    model = keras.models.load_model(trained[1])
    model.get_layer("first").set_weights([weights + 1 for weights in model.get_layer("first").get_weights()])
    model.save(tmp_path / "my model.keras")
    other = BACKBONES[f"file:{tmp_path / 'my model.keras'}"]
    assert other.name != described.name and other.identity != described.identity


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a model that Keras saved, but the file is missing"),
        (b"text", r"expected a \.keras file that Keras saved"),
        ({"config.json": "{}"}, "There is no item named 'model.weights.h5'"),
        pytest.param(
            {"config.json": "{}", "model.weights.h5": ""},
            "expected a model of Keras's own layers, found",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models"))
    path = tmp_path / "model.keras"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        with zipfile.ZipFile(path, "w") as archive:
            for member, text in content.items():
                archive.writestr(member, text)
    with pytest.raises(BadInput, match=message) as error:
        BACKBONES[f"file:{path}"]
    assert "\n" not in str(error.value)
    assert not (tmp_path / "models").exists()


def code_in_a_lambda(keras):
    pixels = keras.Input((None, None, 3))
    return keras.Model(pixels, keras.layers.Conv2D(2, 3)(keras.layers.Lambda(lambda x: x / 255)(pixels)))


def two_inputs(keras):
    inputs = [keras.Input((32, 32, 3)), keras.Input((32, 32, 3))]
    return keras.Model(inputs, keras.layers.Conv2D(2, 3)(keras.layers.Add()(inputs)))


def no_convolution(keras):
    pixels = keras.Input((32, 32, 3))
    return keras.Model(pixels, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(pixels)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (code_in_a_lambda, "expected a model of Keras's own layers, found: .*Lambda"),
        (two_inputs, "expected one input of square RGB images"),
        (no_convolution, "expected a convolution, found none"),
    ],
)
def test_a_model_with_code_or_without_maps_is_refused_in_one_line(tmp_path, build, message):
    import keras

    from pipeline.backbones.describe import describe_file

    build(keras).save(tmp_path / "model.keras")
    with pytest.raises(BadInput, match=message) as error:
        describe_file(str(tmp_path / "model.keras"))
    assert "\n" not in str(error.value)


def test_strides_and_offsets_of_a_model_for_any_size_are_exact(tmp_path):
    import keras

    from pipeline.backbones.describe import describe_file

    pixels = keras.Input((None, None, 3))
    valid = keras.layers.Conv2D(2, 5, strides=2, name="valid")(pixels)
    padded = keras.layers.Conv2D(2, 3, strides=2, padding="same", name="padded")(valid)
    skipped = keras.layers.Conv2D(2, 1, strides=8, padding="same", name="skipped")(pixels)
    model = keras.Model(pixels, [valid, padded, skipped])
    model.save(tmp_path / "model.keras")
    facts = describe_file(str(tmp_path / "model.keras"))
    by_name = {name: (stride, offset) for name, _, stride, offset, *_ in facts["outputs"]}
    for size in (33, 34, 35, 36, 64, 200):
        shapes = model.compute_output_shape((1, size, size, 3))
        for name, shape in zip(("valid", "padded", "skipped"), shapes, strict=True):
            stride, offset = by_name[name]
            assert (size + offset) // stride == shape[1]
    assert facts["bypassed"] == "valid"
