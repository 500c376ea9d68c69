"""Probe layer sets of cached features with the same heads: what each is right about on val and on test.

Every head is fitted on train with all values of its setting; the value is chosen on val. Of the answers on
test only those of the chosen value are looked at.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from pipeline.errors import BadInput
from pipeline.features.store import FeatureStore
from pipeline.heads.calibration import probabilities_of
from pipeline.heads.data import HeadData
from pipeline.names import resolve
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
    if len(store.rows("val")) == 0:
        raise BadInput("layer atlas: expected val images to choose by, found none; take a larger subset")
    features = {layer: store.load((layer,)) for layer in store.layers}
    sets, found = layer_sets(tuple(store.layers)), []
    for number, layers in enumerate(sets):
        joined = np.concatenate([features[layer] for layer in layers.layers], axis=1)
        data = _data(store, joined, classes)
        for head in PROBES:
            progress(f"probe blocks {layers.name}", number, len(sets), "layer sets")
            found.append(_probe(head, layers, data, len(store.rows("val"))))
    return found


def _data(store: FeatureStore, inputs: np.ndarray, classes: int) -> HeadData:
    """Return features as the data of heads, which answer on the val rows and then on the test rows."""
    answered = np.concatenate([store.rows("val"), store.rows("test")])
    return HeadData(Examples(inputs, store.labels, store.rows("train"), answered, classes))


def _probe(head: str, layers: LayerSet, data: HeadData, n_val: int) -> Probe:
    """Fit a head with each value of its setting and choose one on val; of equals the first."""
    began = time.perf_counter()
    recipe, (setting, values) = HEADS[head], PROBES[head]
    points = [{setting: value} for value in values]
    answers = resolve(f"{recipe.module}:answers")(recipe, points, data)
    labels = data.val_labels
    on_val = [_right(one[:, :n_val], labels[:n_val]) for one in answers]
    best = max(range(len(values)), key=lambda number: on_val[number].mean())
    return Probe(
        layers=layers,
        width=data.examples.inputs.shape[1],
        head=head,
        setting=setting,
        value=values[best],
        val=on_val[best],
        test=_right(answers[best][:, n_val:], labels[n_val:]),
        seconds=time.perf_counter() - began,
    )


def _right(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Say of which images (n,) the most probable class by answers (V, n, C) is the label."""
    return probabilities_of(answers).argmax(axis=1) == labels
