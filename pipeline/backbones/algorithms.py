"""Which algorithm computes each convolution of a VGG, and the description of that choice in every key.

Both depend on the constants here: changing one changes the keys and so makes every cache stale, as it must.
"""

# By the side of a tile, the number of filters from which Winograd saves more products than it adds sums. The
# side of a map must be a multiple of the tile's; the largest tile that fits is taken.
WINOGRAD_CHANNELS = {4: 128, 2: 256}
# The points at which a tile's polynomials are evaluated, infinity aside. For 4x4 outputs these give
# half of the rounding error in bfloat16 that the usual 0, ±1, ±2 give.
WINOGRAD_POINTS: dict[int, tuple[float, ...]] = {4: (0, 0.625, -0.625, 1.5, -1.5), 2: (0, 1, -1)}
DENSE_SIDE = 2  # pixels; on a map this small a convolution is one matrix product
# Pixels; AMX multiplies matrices so fast that on larger maps Winograd's transforms take longer than the
# products that they save.
AMX_WINOGRAD_SIDE = 16


def describe_algorithms(winograd_side: int = 0) -> str:
    """Return the description of the algorithms that is part of a cache's key (see algorithm)."""
    tiles = ", ".join(
        f"{tile}x{tile} at {' '.join(f'{point:g}' for point in WINOGRAD_POINTS[tile])} from {channels}"
        for tile, channels in WINOGRAD_CHANNELS.items()
    )
    limit = f" up to {winograd_side} px" if winograd_side else ""
    return f"direct; winograd {tiles} channels{limit}; dense at {DENSE_SIDE} px"


def winograd_tile(side: int) -> int:
    """Return the side of the largest tile that divides maps of side x side pixels, or 0."""
    return next((tile for tile in WINOGRAD_CHANNELS if side % tile == 0), 0)


def algorithm(side: int, filters: int, winograd_side: int = 0) -> str:
    """Return "direct", "winograd" or "dense" for a 3x3 convolution of maps of side x side pixels.

    winograd_side is the side of the largest maps for which Winograd's algorithm is used, 0 for any.
    """
    if side == DENSE_SIDE:
        return "dense"
    tile = winograd_tile(side) if side <= (winograd_side or side) else 0
    return "winograd" if tile and filters >= WINOGRAD_CHANNELS[tile] else "direct"
