"""Probe layer sets of cached features with the same heads: what each is right about on val and on test.

Every head is fitted on train with all values of its setting; the value is chosen on val. Of the answers on
test only those of the chosen value are looked at.
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
    """A head on a layer set: its chosen setting, and which images it is right about.

    val (n_val,) and test (n_test,) are bool, in the store's order; width is the number of features; seconds
    are those of all values of the setting.
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

    Raises BadInput when no image is there to choose by.
    """
    train, val, test = (store.rows(split) for split in SPLITS)
    if len(val) == 0:
        raise BadInput("layer atlas: expected val images to choose by, found none; take a larger subset")
    features = {layer: store.load((layer,)) for layer in store.layers}
    sets, found = layer_sets(tuple(store.layers)), []
    for number, layers in enumerate(sets):
        joined = np.concatenate([features[layer] for layer in layers.layers], axis=1)
        data = HeadData(Examples(joined, store.labels, train, np.concatenate([val, test]), classes))
        for head in PROBES:
            progress(f"probe blocks {layers.name}", number, len(sets), "layer sets")
            found.append(_probe(head, layers, data, len(val)))
    return found


def _probe(head: str, layers: LayerSet, data: HeadData, n_val: int) -> Probe:
    """Fit a head with each value of its setting and choose one on val; of equals the first.

    data answers on the val images and then on the test images.
    """
    began = time.perf_counter()
    recipe, (setting, values) = HEADS[head], PROBES[head]
    points = [{setting: value} for value in values]
    answers = resolve(f"{recipe.module}:answers")(recipe, points, data)
    right = [probabilities_of(one).argmax(axis=1) == data.val_labels for one in answers]
    best = max(range(len(values)), key=lambda number: right[number][:n_val].mean())
    return Probe(
        layers=layers,
        width=data.examples.inputs.shape[1],
        head=head,
        setting=setting,
        value=values[best],
        val=right[best][:n_val],
        test=right[best][n_val:],
        seconds=time.perf_counter() - began,
    )
