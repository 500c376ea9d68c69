"""The cached features of a data set, as NumPy arrays: the interface that heads are trained through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import hdf5
from pipeline.datasets.split import SPLITS
from pipeline.errors import BadInput, DamagedFile
from pipeline.features.extract import COSTS
from pipeline.publishing import read_manifest

if TYPE_CHECKING:
    import numpy as np


class FeatureStore:
    """A finished feature cache; every shard is checked by sha256 before its rows are used.

    labels (N,) int64, index (N,) int64, split (N,) uint8, names N texts, layers in network order. Raises
    DamagedFile when rows are missing or a shard is not what the manifest says.
    """

    def __init__(self, folder: Path | str):
        import numpy as np

        manifest = read_manifest(Path(folder))
        self.folder = Path(folder)
        self.fingerprint = manifest.fingerprint
        self.layers: list[str] = manifest.fingerprint["layers"]
        self.bytes: int = manifest.bytes
        self._shards = [manifest.verified(name) for name in sorted(manifest.files)]
        columns = [self._read_columns(path) for path in self._shards]
        self.labels: np.ndarray = np.concatenate([column[0] for column in columns])
        self.index: np.ndarray = np.concatenate([column[1] for column in columns])
        self.split: np.ndarray = np.concatenate([column[2] for column in columns])
        self.names: list[str] = [name for column in columns for name in column[3]]
        if len(self.labels) != manifest.facts["rows"]:
            raise DamagedFile(
                f"{folder}: expected {manifest.facts['rows']} rows, found {len(self.labels)}; "
                "delete it and run again"
            )

    def rows(self, split: str) -> np.ndarray:
        """Return the positions (n,) int64 of "train", "val" or "test", ascending."""
        import numpy as np

        return np.flatnonzero(self.split == SPLITS[split])

    def load(self, layers: list[str] | tuple[str, ...]) -> np.ndarray:
        """Return the features of all images, layers joined in the order given: (N, D) float32.

        Maps (pooling "none") of a single layer keep their shape (N, height, width, channels).
        """
        import numpy as np

        missing = [layer for layer in layers if layer not in self.layers]
        if missing or not layers:
            raise BadInput(f"layers {list(layers)}: expected some of the cached {self.layers}")
        if len(layers) > 1 and self.fingerprint["pooling"] == "none":
            raise BadInput(f"layers {list(layers)}: expected one layer: maps (pooling none) are not joined")
        features = np.concatenate([self._read_features(path, layers) for path in self._shards])
        if len(features) != len(self.labels):
            raise DamagedFile(
                f"{self.folder}: expected {len(self.labels)} rows of features, found {len(features)}; "
                "delete it and run again"
            )
        return features

    def costs(self) -> dict:
        """Return what extraction cost: seconds, images_per_second, peak_memory_mb, bytes."""
        return json.loads((self.folder / COSTS).read_text(encoding="utf-8"))

    @staticmethod
    def _read_columns(path: Path) -> tuple:
        with hdf5.opened(path) as file:
            return file["labels"][:], file["index"][:], file["split"][:], hdf5.read_texts(file, "names")

    @staticmethod
    def _read_features(path: Path, layers) -> np.ndarray:
        import numpy as np

        with hdf5.opened(path) as file:
            return np.concatenate([file["features"][layer][:] for layer in layers], axis=-1)
