"""Frozen blocks come from the cache if that is cheaper, and training from it gives the same losses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipeline import numerics
from pipeline.backbones.table import BACKBONES, choose_weights
from pipeline.datasets.store import ImageStore
from pipeline.errors import BadInput
from pipeline.features.extract import extract
from pipeline.features.sections import cache_fingerprint
from pipeline.features.store import FeatureStore
from pipeline.progress import silent
from pipeline.recipes.fine_tune import plan_prefix
from pipeline.recipes.schemes import SCHEMES
from pipeline.schemes.fine_tune import fine_tune
from pipeline.training import loop
from pipeline.training.history import Clock
from pipeline.training.job import Job

VGG16 = BACKBONES["vgg16"]


def recipe_of(name: str = "block5", **changes):
    return SCHEMES["fine-tune"].recipe(name, changes)


@pytest.mark.parametrize(
    ("name", "changes", "size", "cached", "why"),
    [
        ("whole", {}, 32, False, "no block stays frozen throughout training"),
        ("gradual", {}, 32, False, "no block stays frozen throughout training"),
        (
            "block5",
            {"unfreeze_epochs": 1, "freeze_through": 3},
            32,
            False,
            "no block stays frozen throughout",
        ),
        ("block5", {}, 32, True, "cached maps of block4_pool: 2 views per image, 8 KB"),
        ("block5", {"flip": False}, 32, True, "cached maps of block4_pool: 1 view per image, 4 KB"),
        ("blocks4_5", {}, 32, True, "cached maps of block3_pool: 2 views per image, 16 KB"),
        ("block5", {"prefix": "images"}, 32, False, "because --prefix is images"),
        ("block5", {"shift": 2}, 32, False, "50 views per image cost more than 8 epochs"),
        ("block5", {"shift": 2, "prefix": "cache"}, 32, True, "50 views per image, 200 KB"),
        ("block5", {}, 128, True, "cached maps of block4_pool: 2 views per image, 128 KB"),
        ("top_only", {"shift": 1, "epochs": 18}, 32, True, "cached maps of block5_pool: 18 views"),
        ("top_only", {"shift": 1, "epochs": 17}, 32, False, "18 views per image cost more than 17 epochs"),
    ],
)
def test_auto_uses_the_cache_if_it_is_cheaper(name, changes, size, cached, why):
    plan = plan_prefix(recipe_of(name, **changes), VGG16, size)
    assert plan.cached == cached
    assert why in plan.why
    assert bool(plan.views) == bool(plan.layer) == cached


@pytest.mark.parametrize("changes", [{"freeze_through": 0}, {"unfreeze_epochs": 1, "freeze_through": 3}])
def test_the_cache_is_rejected_if_no_block_stays_frozen(changes):
    with pytest.raises(BadInput, match="prefix cache: expected blocks that stay frozen throughout training"):
        plan_prefix(recipe_of(prefix="cache", **changes), VGG16, 32)


@pytest.fixture
def job(digits, weights, features):
    """Return a function that makes the job of a recipe, with maps at its cut if cached."""

    def make(recipe, folder, *, cached: bool, precision: str = "float32", size: int = 32) -> Job:
        plan, maps = plan_prefix(recipe, VGG16, size), None
        if cached:
            base = cache_fingerprint(
                ImageStore(digits).fingerprint,
                backbone="vgg16",
                weights=choose_weights("random", "vgg16"),
                precision=precision,
                pooling=plan.pooling,
                input_size=size,
            )
            places = {"dataset": str(digits), "weights": str(weights), "folder": str(folder / "maps")}
            extract({**base, "layers": [plan.layer], "views": list(plan.views)}, **places)
            maps = FeatureStore(folder / "maps")
        numerics.configure(seed=0, precision=precision)
        store, images = FeatureStore(features), ImageStore(digits)
        return Job(recipe, 5, images, store, weights, "vgg16", size, Clock(), silent, maps=maps, prefix=plan)

    return make


@pytest.fixture
def losses(monkeypatch):
    """Collect the loss of every step that trains blocks, in order."""
    losses, original = [], loop._update_function
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)  # one step a call

    def recording(*arguments, **options):
        update, stage = original(*arguments, **options), arguments[1].stage

        def call(inputs, rows):
            sums = update(inputs, rows)
            if stage.name != "top":
                losses.append(sums[0] / len(rows))
            return sums

        return call

    monkeypatch.setattr(loop, "_update_function", recording)
    return losses


SMALL = {"epochs": 3, "top_epochs": 2, "batch_size": 20, "dense_blocks": "dense - batch norm - dropout"}
SMALL |= {"units": [8], "prefix": "cache", "patience": 0, "mixup": 0.0}
# Adam divides a gradient by its own size, so rounding alone would change weights whose gradient is zero.
# Random weights amplify rounding: a hundredfold in nine steps at a learning rate of 1e-5, but hardly at this
# one, and training still changes the losses by ten times the tolerance.
SMALL |= {"optimizer": "sgd", "learning_rate": 3e-7}


@pytest.mark.parametrize(
    ("changes", "size", "precision", "tolerance"),
    [
        pytest.param({"shift": 1}, 32, "float32", 1e-4, id="18 views", marks=pytest.mark.slow),
        pytest.param({}, 32, "float32", 1e-4, id="32 px", marks=pytest.mark.slow),
        pytest.param({"alternate": True}, 32, "float32", 1e-4, id="alternate flips", marks=pytest.mark.slow),
        pytest.param({}, 48, "float32", 1e-4, id="48 px", marks=pytest.mark.slow),
        pytest.param({"freeze_through": 3}, 32, "float32", 1e-4, id="blocks 4 and 5", marks=pytest.mark.slow),
        pytest.param({"freeze_through": 5}, 32, "float32", 1e-4, id="top only", marks=pytest.mark.slow),
        pytest.param({}, 32, "bfloat16", 0.05, id="bfloat16", marks=pytest.mark.slow),
    ],
)
def test_every_step_has_the_same_loss_from_the_cache_as_from_images(
    job, losses, tmp_path, changes, size, precision, tolerance
):
    recipe = recipe_of(**{**SMALL, **changes})
    cached = fine_tune(job(recipe, tmp_path, cached=True, precision=precision, size=size))
    from_cache = losses.copy()
    losses.clear()
    recipe = dataclasses.replace(recipe, prefix="images")
    from_images = fine_tune(job(recipe, tmp_path, cached=False, precision=precision, size=size))
    assert len(from_cache) == len(losses) == 3 * 3
    assert np.ptp(losses) > 0.01  # training changes the losses, so equality is meaningful
    np.testing.assert_allclose(from_cache, losses, rtol=tolerance)
    np.testing.assert_allclose(cached.probabilities, from_images.probabilities, atol=tolerance)
    assert cached.facts["prefix"].startswith("from cached maps of")
    assert from_images.facts["prefix"] == "from images, because --prefix is images"


@pytest.mark.slow
def test_a_network_trained_from_the_cache_is_complete(job, tmp_path):
    cached_job = job(recipe_of(**SMALL), tmp_path, cached=True)
    trained = fine_tune(cached_job)
    assert trained.model.input_shape == (None, 32, 32, 3)
    assert trained.model.input.dtype == "uint8"
    trained.model.save(tmp_path / "model.keras")
    import keras

    pixels = cached_job.images.images[trained.rows]
    predicted = keras.models.load_model(tmp_path / "model.keras")(pixels, training=False)
    np.testing.assert_allclose(predicted, trained.probabilities, atol=1e-5)
