"""Which algorithm computes each convolution of a VGG, and the description of that choice in every key.

Both depend on the constants here: changing one changes the keys and so makes every cache stale, as it must.
"""

from __future__ import annotations

WINOGRAD_CHANNELS = 256  # from this many filters on, Winograd saves more products than it adds sums
WINOGRAD_TILE = 2  # pixels; the side of a map must be a multiple of it
DENSE_SIDE = 2  # pixels; on a map this small a convolution is one matrix product


def describe_algorithms() -> str:
    """Return the description of the algorithms that is part of a cache's key."""
    tile = f"{WINOGRAD_TILE}x{WINOGRAD_TILE}"
    return f"direct; winograd {tile} from {WINOGRAD_CHANNELS} channels; dense at {DENSE_SIDE} px"


def algorithm(side: int, filters: int) -> str:
    """Return "direct", "winograd" or "dense" for a 3x3 convolution of maps of side x side pixels."""
    if side == DENSE_SIDE:
        return "dense"
    return "winograd" if side % WINOGRAD_TILE == 0 and filters >= WINOGRAD_CHANNELS else "direct"
