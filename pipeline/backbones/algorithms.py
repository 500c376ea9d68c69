"""How the convolutions of a VGG are computed: which algorithm takes which, and the words for it in every key.

Both follow from the constants here; whoever changes one makes every cache stale, and has to.
"""

from __future__ import annotations

WINOGRAD_CHANNELS = 256  # from so many filters on the products that it saves outweigh its additions
WINOGRAD_TILE = 2  # pixels; a map is cut into whole tiles
DENSE_SIDE = 2  # pixels of a map so small that a convolution is one matrix product


def in_words() -> str:
    """Return what the key of a cache says of the algorithms."""
    tile = f"{WINOGRAD_TILE}x{WINOGRAD_TILE}"
    return f"direct; winograd {tile} from {WINOGRAD_CHANNELS} channels; dense at {DENSE_SIDE} px"


def algorithm(side: int, filters: int) -> str:
    """Return "direct", "winograd" or "dense" for a 3x3 convolution of maps of side x side pixels."""
    if side == DENSE_SIDE:
        return "dense"
    return "winograd" if side % WINOGRAD_TILE == 0 and filters >= WINOGRAD_CHANNELS else "direct"
