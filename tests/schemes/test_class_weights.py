"""Networks are trained with the weights of pictures and of classes, in every stage of every scheme."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import numerics
from pipeline.datasets.store import ImageStore
from pipeline.extensions import resolve
from pipeline.features.store import FeatureStore
from pipeline.progress import silent
from pipeline.recipes.schemes import find_scheme
from pipeline.training.examples import Examples
from pipeline.training.history import Clock
from pipeline.training.job import Job

TINY = {
    "fine-tune:block5": {"epochs": 1, "top_epochs": 1, "units": [8]},
    "from-scratch:lesson": {"epochs": 1, "filters": [2], "units": []},
}


@pytest.fixture
def imbalanced(digits) -> ImageStore:
    """A hundred digits as two classes, of which the first has all but the ones."""
    images = ImageStore(digits)
    images.labels = (images.labels == 1).astype(np.int64)
    images.class_names = ["other", "one"]
    return images


@pytest.mark.slow
@pytest.mark.parametrize("text", TINY)
def test_every_stage_of_a_network_is_trained_with_weights(text, imbalanced, weights, features):
    scheme, name = find_scheme(text)
    histories = []
    for own, class_weights in (
        (None, "none"),
        (None, "balanced"),
        (np.float32(imbalanced.labels + 1), "none"),
    ):
        numerics.configure(seed=0, precision="float32")
        imbalanced.weights = own
        recipe = scheme.recipe(name, {**TINY[text], "class_weights": class_weights})
        job = Job(recipe, 0, imbalanced, FeatureStore(features), weights, "vgg16", 32, Clock(), silent)
        histories.append([row["train_loss"] for row in resolve(scheme.train)(job).history.rows])
    for losses in zip(*histories, strict=True):
        assert np.ptp(losses[:2]) > 1e-3 and np.ptp(losses[::2]) > 1e-3, (
            "the loss of some stage is not weighted"
        )


@pytest.mark.parametrize("text", [*TINY, "head:ridge", "tuned-head:linear"])
def test_examples_are_weighted_by_the_pictures_that_a_label_budget_selects(text, imbalanced):
    scheme, name = find_scheme(text)
    recipe = scheme.recipe(name, {"class_weights": "balanced", "label_budget": "5/class"})
    examples = Examples.of(imbalanced, imbalanced.images, recipe)
    assert examples.loss_weights[examples.train].tolist() == [1.0] * 10
    examples = Examples.of(imbalanced, imbalanced.images, scheme.recipe(name, {"class_weights": "balanced"}))
    sums = np.bincount(examples.labels[examples.train], examples.loss_weights[examples.train])
    np.testing.assert_allclose(sums, len(examples.train) / 2, rtol=1e-5)
