"""Atlas tables from small synthetic features with a known amount of noise in each block."""

from __future__ import annotations

import pytest
from planted_features import CLASSES, PlantedFeatures

from pipeline.report.atlas.probe import probe_layers
from pipeline.report.atlas.tables import DepthCost, atlas_table, class_table

SHARES = (0.13, 0.31, 0.61, 0.91, 1.0)


@pytest.fixture(scope="session")
def second_best():
    """The two tables of an atlas in which block 2 separates the classes best and later blocks do worse.

    The seconds of the last block are measured, the others estimated.
    """
    store = PlantedFeatures((3.0, 0.6, 1.6, 3.0, 5.0))
    probes = probe_layers(store, len(CLASSES))
    costs = [DepthCost(int(1000 * share), share, 30 * share, measured=share == 1.0) for share in SHARES]
    return atlas_table(probes, costs), class_table(probes, store.labels[store.rows("test")], CLASSES)
