"""What cached features depend on; computed while the graph is planned, so nothing heavy is loaded."""

from __future__ import annotations

from typing import Any

from pipeline.backbones.table import BACKBONES, WeightsChoice
from pipeline.datasets.table import IMAGE_SIZE
from pipeline.errors import BadInput

POOLINGS = ("average", "none")
STORAGES = ("float32", "float16")
LARGEST_INPUT = 224  # pixels
RESAMPLING = "bilinear, antialiased (tf.image.resize)"


def parse_layers(text: str, backbone: str) -> tuple[str, ...]:
    """Return the tap names in text (comma-separated, or "all") in network order; raise BadInput."""
    taps = BACKBONES[backbone].taps
    if text == "all":
        return taps
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in wanted if name not in taps]
    if wrong or not wanted:
        raise BadInput(
            f"layers {text!r}: expected names among {', '.join(taps)}, separated by commas, or all; "
            f"received {wrong[0] if wrong else 'none'!r}"
        )
    return tuple(tap for tap in taps if tap in wanted)


def without_columns(fingerprint: dict[str, Any]) -> dict[str, Any]:
    """Return the cache's own part of the fingerprint of some of its layers and views."""
    return {name: value for name, value in fingerprint.items() if name not in ("layers", "view", "views")}


def cache_fingerprint(
    dataset: dict[str, Any],
    *,
    backbone: str,
    weights: WeightsChoice,
    precision: str,
    pooling: str = "average",
    input_size: int = IMAGE_SIZE,
    storage: str = "float32",
) -> dict[str, Any]:
    """Return what all features of one cache have in common, whichever layers and views it holds.

    dataset is the data set's own fingerprint. Raises BadInput.
    """
    row = BACKBONES[backbone]
    for name, value, known in (("pooling", pooling, POOLINGS), ("storage", storage, STORAGES)):
        if value not in known:
            raise BadInput(f"{name} {value!r}: expected one of {', '.join(known)}")
    if not row.minimum_size <= input_size <= LARGEST_INPUT:
        raise BadInput(
            f"input size of {row.title}: expected {row.minimum_size} to {LARGEST_INPUT} pixels, "
            f"received {input_size}"
        )
    return {
        "dataset": dataset,
        "backbone": backbone,
        "weights": {"name": weights.name, "identity": weights.identity},
        "pooling": pooling,
        "input_size": input_size,
        "resampling": RESAMPLING if input_size != IMAGE_SIZE else "none",
        "preprocessing": {"subtract": list(row.subtract), "channels": "BGR" if row.flip_channels else "RGB"},
        "precision": precision,
        "convolutions": row.algorithms,
        "storage": storage,
    }
