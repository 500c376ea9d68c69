"""The module `headstart`: features, runs, models, and a scikit-learn transformer."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from trees import only

import headstart as door
from pipeline.datasets.store import ImageStore
from pipeline.runs.result import read_run

SMALL = {"weights": "random", "layers": "block1_pool,block2_pool", "precision": "float32"}
STATUSES = ("passed", "failed", "xfail", "skipped")
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
# Checks of scikit-learn that do not apply to images, with the reason; all others pass.
NOT_APPLICABLE = {
    **dict.fromkeys(
        [
            "check_fit_score_takes_y",
            "check_estimators_overwrite_params",
            "check_dont_overwrite_parameters",
            "check_estimators_fit_returns_self",
            "check_readonly_memmap_input",
            "check_n_features_in_after_fitting",
            "check_positive_only_tag_during_fit",
            "check_estimators_dtypes",
            "check_dtype_object",
            "check_estimators_empty_data_messages",
            "check_pipeline_consistency",
            "check_estimators_pickle",
            "check_f_contiguous_array_estimator",
            "check_transformer_data_not_an_array",
            "check_transformer_general",
            "check_transformer_preserve_dtypes",
            "check_transformers_unfitted_stateless",
            "check_methods_sample_order_invariance",
            "check_methods_subset_invariance",
            "check_fit2d_1sample",
            "check_fit2d_1feature",
            "check_dict_unchanged",
            "check_fit_idempotent",
            "check_fit_check_is_fitted",
            "check_n_features_in",
            "check_fit2d_predict1d",
        ],
        "its X has two dimensions, and images have four",
    ),
    "check_complex_data": "complex numbers are refused as no uint8, in other words",
    "check_estimators_nan_inf": "uint8 has neither NaN nor infinity",
    **dict.fromkeys(
        ["check_estimator_sparse_tag", "check_estimator_sparse_array", "check_estimator_sparse_matrix"],
        "a sparse matrix is refused as no image, in other words",
    ),
}


class OfTwoDimensions(door.CachedFeatures):
    """Declares that it takes X of two dimensions, so that scikit-learn lists all checks."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


@pytest.fixture(scope="module")
def module_data(tmp_path_factory):
    return tmp_path_factory.mktemp("door")


@pytest.fixture
def transformer(data_folder, module_data):
    """A transformer whose cache the tests of this module share."""
    return door.CachedFeatures(**SMALL, cache=module_data / "cache")


def test_features_are_listed_and_opened_by_a_part_of_their_name(little):
    table = door.list_features()
    assert set(table["pooling"]) == {"average", "none"}
    assert set(table["data_set"]) == {"digits"} and set(table["input_size"]) == {32}
    name = table[table["pooling"] == "average"]["name"].item()
    store = door.open_features(name)
    features = store.load("block1_pool")
    assert np.array_equal(features, store.load(["block1_pool"])) and features.shape == (100, 64)
    assert "100 images" in repr(store) and "block1_pool" in repr(store)
    with pytest.raises(door.HeadstartError, match=f"expected a name.*received that of 2: .*{name}"):
        door.open_features("vgg16-random-digits")
    with pytest.raises(
        door.HeadstartError, match="unknown split 'training': expected one of test, train, val"
    ):
        store.rows("training")
    with pytest.raises(door.HeadstartError, match="'block9': expected some of the cached"):
        store.load("block9")


def test_runs_are_a_table_with_settings_as_columns(little):
    table = door.runs()
    run = read_run(only(little, "runs/*/manifest.json").parent)
    row = table.iloc[0]
    assert len(table) == 1 and row["run"] == run.folder.name
    assert row["settings.epochs"] == 2 and row["settings.layers"] == ["block1_pool"]
    assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
    assert pd.api.types.is_float_dtype(table["val_accuracy"])


def test_a_loaded_model_predicts_what_its_run_stored(little):
    run = read_run(only(little, "runs/*/manifest.json").parent)
    store = ImageStore(only(little, "datasets/digits-100-*"))
    test, model = run.split("test"), door.load_model("head-linear")
    rows = store.rows("test")
    assert np.array_equal(store.index[rows], test.index)
    assert model.class_names == list(test.class_names)
    probabilities = model.predict(store.images[rows], verbose=0)
    np.testing.assert_allclose(probabilities, test.probabilities, atol=1e-3)
    with pytest.raises(door.HeadstartError, match="run 'nothing': expected a name"):
        door.load_model("nothing")


@pytest.mark.slow
def test_images_are_computed_once_and_features_follow_their_order(transformer, monkeypatch):
    features = transformer.fit_transform(IMAGES)
    assert features.shape == (12, 192) and features.dtype == np.float32
    monkeypatch.setattr(door, "_run_in_child", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(transformer.transform(IMAGES[::-1])[::-1], features)
    assert list(transformer.get_feature_names_out()[:2]) == ["cachedfeatures0", "cachedfeatures1"]
    frame = clone(transformer).set_output(transform="pandas").fit_transform(IMAGES)
    assert isinstance(frame, pd.DataFrame) and frame.shape == (12, 192)
    assert np.array_equal(pickle.loads(pickle.dumps(transformer)).transform(IMAGES), features)
    labels = np.arange(12) % 2
    scores = cross_val_score(make_pipeline(transformer, RidgeClassifier()), IMAGES, labels, cv=3)
    assert len(scores) == 3


@pytest.mark.slow
def test_pictures_give_the_features_of_their_pixels(transformer, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, image in zip(paths, IMAGES, strict=False):
        Image.fromarray(image).save(path)
    from_paths = transformer.set_params(image_size=32).fit_transform(paths)
    assert np.array_equal(from_paths, transformer.transform(IMAGES[:3]))
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(door.HeadstartError, match=r"bad\.png: not a readable picture"):
        transformer.transform([*paths, tmp_path / "bad.png"])


@pytest.mark.parametrize(
    "value", [np.zeros((2, 32, 32, 3)), np.zeros((2, 32, 16, 3), np.uint8), IMAGES[:0], [[1, 2]], "photo.jpg"]
)
def test_what_is_no_image_is_refused_in_one_sentence(transformer, value):
    with pytest.raises(
        ValueError, match=r"X: expected RGB images \(n, S, S, 3\) uint8 or a sequence of paths"
    ):
        transformer.fit(value)


def test_bad_parameters_are_refused_when_the_transformer_is_fitted(data_folder):
    with pytest.raises(door.HeadstartError, match="unknown backbone 'vgg61'"):
        door.CachedFeatures("vgg61", weights="random").fit(IMAGES)
    with pytest.raises(door.HeadstartError, match="layers 'block9'"):
        door.CachedFeatures(weights="random", layers="block9").fit(IMAGES)


@pytest.mark.slow
def test_scikit_learns_own_checks_pass_except_those_that_do_not_apply_to_images(data_folder):
    results = estimator_checks.check_estimator(
        OfTwoDimensions(**SMALL), expected_failed_checks=NOT_APPLICABLE, on_skip=None
    )
    by_status = {
        status: {one["check_name"] for one in results if one["status"] == status} for status in STATUSES
    }
    assert by_status["failed"] == set()
    assert by_status["xfail"] == set(NOT_APPLICABLE)
    assert by_status["skipped"] <= {"check_array_api_input"}
    assert len(by_status["passed"]) > 10
