"""What cached features depend on; computed while the graph is planned, so nothing heavy is loaded."""

from __future__ import annotations

from pipeline.backbones.table import BACKBONES, WeightsChoice
from pipeline.datasets.table import IMAGE_SIZE
from pipeline.errors import BadInput

POOLINGS = ("average", "none")


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


def feature_fingerprint(
    dataset: dict, *, backbone: str, weights: WeightsChoice, layers: str, pooling: str, precision: str
) -> dict:
    """Return the fingerprint of the features of a data set (its own fingerprint). Raises BadInput."""
    if pooling not in POOLINGS:
        raise BadInput(f"pooling {pooling!r}: expected one of {', '.join(POOLINGS)}")
    row = BACKBONES[backbone]
    return {
        "dataset": dataset,
        "backbone": backbone,
        "weights": {"name": weights.name, "identity": weights.identity},
        "layers": list(parse_layers(layers, backbone)),
        "pooling": pooling,
        "input_size": IMAGE_SIZE,
        "resampling": "none",
        "preprocessing": {"subtract": list(row.subtract), "channels": "BGR" if row.flip_channels else "RGB"},
        "views": ["identity"],
        "precision": precision,
        "storage": "float32",
    }
