"""Probe layer sets of cached features: fit the same heads on each, evaluate them on val and test.

Each head is fitted on train with all values of its setting, and the best value is chosen on val. On test,
only the chosen value is evaluated.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from pipeline.datasets.table import SPLITS
from pipeline.errors import BadInput
from pipeline.extensions import resolve
from pipeline.features.store import FeatureStore
from pipeline.heads.calibration import probabilities_of
from pipeline.heads.data import HeadData
from pipeline.progress import Progress, silent
from pipeline.recipes.heads import HEADS
from pipeline.report.atlas.layer_sets import PROBES, LayerSet, layer_sets
from pipeline.training.examples import Examples


@dataclass(frozen=True, eq=False)
class Probe:
    """A head on a layer set: the chosen value of its setting, and which images it classifies correctly.

    val (n_val,) and test (n_test,) are bool, in the store's order; width is the number of features; seconds
    cover all values of the setting.
    """

    layers: LayerSet
    width: int
    head: str
    setting: str
    value: float
    val: np.ndarray
    test: np.ndarray
    seconds: float


def probe_layers(store: FeatureStore, classes: int, progress: Progress = silent) -> list[Probe]:
    """Return a probe for each layer set of a store and each row of PROBES; features are read once.

    Raises BadInput if there are no val images to choose a setting with.
    """
    train, val, test = (store.rows(split) for split in SPLITS)
    if len(val) == 0:
        raise BadInput("layer atlas: expected val images to choose settings, got none; use a larger subset")
    features = {layer: store.load((layer,)) for layer in store.layers}
    sets, probes = layer_sets(tuple(store.layers)), []
    for number, layers in enumerate(sets):
        joined = np.concatenate([features[layer] for layer in layers.layers], axis=1)
        data = HeadData(Examples(joined, store.labels, train, np.concatenate([val, test]), classes))
        for head in PROBES:
            progress(f"probe blocks {layers.name}", number, len(sets), "layer sets")
            probes.append(_probe(head, layers, data, len(val)))
    return probes


def _probe(head: str, layers: LayerSet, data: HeadData, n_val: int) -> Probe:
    """Fit a head with each value of its setting and choose the first of the best on val.

    The evaluation images of data are the val images, then the test images.
    """
    start = time.perf_counter()
    recipe, (setting, values) = HEADS[head], PROBES[head]
    points = [{setting: value} for value in values]
    outputs = resolve(f"{recipe.module}:predict_logits")(recipe, points, data)
    correct = [probabilities_of(output).argmax(axis=1) == data.val_labels for output in outputs]
    best = max(range(len(values)), key=lambda number: correct[number][:n_val].mean())
    return Probe(
        layers=layers,
        width=data.examples.inputs.shape[1],
        head=head,
        setting=setting,
        value=values[best],
        val=correct[best][:n_val],
        test=correct[best][n_val:],
        seconds=time.perf_counter() - start,
    )
