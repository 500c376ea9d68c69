"""Frozen blocks do not change, trainable blocks do, and the joined network starts with the fitted top."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from pipeline import numerics
from pipeline.backbones.model import build_backbone
from pipeline.backbones.table import BACKBONES
from pipeline.datasets.store import ImageStore
from pipeline.features.store import FeatureStore
from pipeline.heads.calibration import with_probabilities
from pipeline.heads.data import HeadData
from pipeline.heads.network import build_head
from pipeline.networks.build import add_block
from pipeline.notation import parse_block
from pipeline.progress import silent
from pipeline.recipes.schemes import SCHEMES
from pipeline.schemes.fine_tune import fine_tune, freeze_blocks, join
from pipeline.training.classifier import Classifier
from pipeline.training.examples import Examples
from pipeline.training.history import Clock, History
from pipeline.training.job import Job
from pipeline.training.loop import fit

VGG16 = BACKBONES["vgg16"]


def features_of(backbone: keras.Model, pictures: Examples) -> np.ndarray:
    """Return the features of the backbone's last layer, averaged over space."""
    maps = keras.Model(backbone.input, backbone.output)(pictures.inputs, training=False)
    return maps.numpy().mean(axis=(1, 2))


def top_on(backbone: keras.Model, pictures: Examples, text: str = "dense - dropout") -> keras.Model:
    """Return a new top for the backbone's features."""
    features = dataclasses.replace(pictures, inputs=features_of(backbone, pictures))
    return with_probabilities(build_head(HeadData(features), text, (8,), 0.5), None)


def weights_by_layer(model: keras.Model) -> dict[str, list[np.ndarray]]:
    """Return the weights of the backbone's layers by layer name."""
    return {
        layer.name: layer.get_weights()
        for layer in model.layers
        if layer.name.startswith("block") and layer.weights
    }


def block_of(layer: str) -> int:
    return int(layer.partition("_")[0].removeprefix("block"))


@pytest.mark.parametrize("freeze_through", [0, 4, 5])
def test_frozen_blocks_do_not_change_and_the_others_do(arrays, pictures, make_stage, freeze_through):
    numerics.configure(seed=0, precision="float32")
    backbone = build_backbone(VGG16, arrays, input_size=32)
    freeze_blocks(backbone, VGG16, freeze_through)
    network = join(backbone, top_on(backbone, pictures))
    logits_before = network.get_layer("logits").get_weights()
    fit(Classifier(network), pictures, make_stage(batch_size=6), seed=0, history=History())
    for name, weights in weights_by_layer(network).items():
        for before, after in zip(arrays[name], weights, strict=True):
            assert np.array_equal(before, after) == (block_of(name) <= freeze_through), name
    assert not np.array_equal(logits_before[0], network.get_layer("logits").get_weights()[0])


def test_freezing_fewer_blocks_unfreezes_the_others(arrays):
    backbone = build_backbone(VGG16, arrays, input_size=32)
    for through in (5, 2):
        freeze_blocks(backbone, VGG16, through)
        trainable = {layer.name: layer.trainable for layer in backbone.layers if layer.name in arrays}
        assert trainable == {name: block_of(name) > through for name in arrays}


def test_batch_norm_in_a_frozen_block_stays_in_inference_mode(pictures, make_stage):
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    for name in ("block1", "block2"):
        block = parse_block("conv - batch norm - maxpool 4", dense=False)
        x = add_block(x, block, name=name, width=4, dropout=0.0)
    backbone = keras.Model(pixels, x)
    before = weights_by_layer(backbone)
    freeze_blocks(backbone, dataclasses.replace(VGG16, taps=("block1_pool", "block2_pool")), 1)
    network = join(backbone, top_on(backbone, pictures))
    fit(Classifier(network), pictures, make_stage(), seed=0, history=History())
    after = weights_by_layer(network)
    assert list(after) == ["block1_conv1", "block1_norm1", "block2_conv1", "block2_norm1"]
    for name in after:
        unchanged = [np.array_equal(*pair) for pair in zip(before[name], after[name], strict=True)]
        assert unchanged == [block_of(name) == 1] * len(unchanged), name


def test_the_joined_network_predicts_the_same_as_its_top_on_the_backbones_features(arrays, pictures):
    backbone = build_backbone(VGG16, arrays, input_size=32)
    top = top_on(backbone, pictures, "dense - batch norm - dropout")
    rng = np.random.default_rng(0)
    top.set_weights([rng.uniform(0.1, 1, array.shape).astype(array.dtype) for array in top.get_weights()])
    expected = top(features_of(backbone, pictures), training=False).numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(join(backbone, top)(pictures.inputs, training=False), expected, atol=1e-5)


def test_the_joined_network_contains_a_copy_of_the_top(arrays, pictures):
    backbone = build_backbone(VGG16, arrays, input_size=32)
    top = top_on(backbone, pictures)
    network = join(backbone, top)
    network.get_layer("logits").bias.assign([9.0, 9.0])
    assert top.get_layer("logits").bias.numpy().tolist() == [0.0, 0.0]


def test_with_zero_epochs_the_network_has_the_accuracy_and_loss_of_its_top(digits, weights, features):
    numerics.configure(seed=0, precision="float32")
    images = ImageStore(digits)
    recipe = SCHEMES["fine-tune"].recipe(
        "block5", {"epochs": 0, "top_epochs": 3, "units": [8], "test_views": ["identity"]}
    )
    job = Job(recipe, 0, images, FeatureStore(features), weights, "vgg16", 32, Clock(), silent)
    trained = fine_tune(job)
    assert [row["stage"] for row in trained.history.rows] == ["top"] * 3
    val = np.isin(trained.rows, images.rows("val"))
    labels, probabilities = images.labels[trained.rows[val]], trained.probabilities[val]
    last = trained.history.rows[-1]
    assert (probabilities.argmax(axis=1) == labels).mean() == last["val_accuracy"]
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(last["val_loss"], rel=1e-4)
