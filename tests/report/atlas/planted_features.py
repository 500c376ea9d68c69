"""Synthetic features with a given amount of noise in each block."""

from __future__ import annotations

import numpy as np

from pipeline.datasets.table import SPLITS

CLASSES = ("ant", "bee", "cat")


class PlantedFeatures:
    """A small FeatureStore: the 8 features of block i are the class's center plus noise[i] times noise."""

    def __init__(self, noise: tuple[float, ...], *, n: int = 900, val: int = 300, test: int = 300):
        rng = np.random.default_rng(7)
        self.labels = np.arange(n, dtype=np.int64) % len(CLASSES)
        self.split = np.repeat(list(SPLITS.values()), [n - val - test, val, test])
        self.layers = [f"block{number}_pool" for number in range(1, len(noise) + 1)]
        centers = rng.normal(size=(len(noise), len(CLASSES), 8))
        self._features = {
            layer: (centers[i][self.labels] + noise[i] * rng.normal(size=(n, 8))).astype(np.float32)
            for i, layer in enumerate(self.layers)
        }

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.split == SPLITS[split])

    def load(self, layers: tuple[str, ...]) -> np.ndarray:
        return np.concatenate([self._features[layer] for layer in layers], axis=1)
