"""Views: the ways in which an image is shown to the backbone, each cached on its own.

A view is `identity` or parts joined by `+`: `hflip` mirrors left to right, `left2`, `right2`, `up2` and
`down2` move the picture by so many pixels (1 to 8), where the edge that comes in is reflected.
"""

from __future__ import annotations

import itertools
import re

from pipeline.errors import BadInput

IDENTITY, MIRRORED = "identity", "hflip"
LARGEST_SHIFT = 8  # pixels
MOVES = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # rows, columns


def parse_views(text: str) -> tuple[str, ...]:
    """Return the views in text (comma-separated), each written in one way and once; raise BadInput."""
    found = tuple(
        dict.fromkeys(canonical_view(*parts_of(part.strip())) for part in text.split(",") if part.strip())
    )
    if not found:
        raise BadInput(f"views {text!r}: expected at least one, such as {IDENTITY} or {IDENTITY},{MIRRORED}")
    return found


def canonical_view(mirrored: bool, down: int, right: int) -> str:
    """Return the one way of writing a view, given what parts_of returns for it."""
    parts = [MIRRORED] if mirrored else []
    parts += [f"{'right' if right > 0 else 'left'}{abs(right)}"] if right else []
    parts += [f"{'down' if down > 0 else 'up'}{abs(down)}"] if down else []
    return "+".join(parts) or IDENTITY


def parts_of(view: str) -> tuple[bool, int, int]:
    """Return whether a view is mirrored, and by how many pixels it moves down and to the right."""
    mirrored, moves = False, {}
    if view == IDENTITY:
        return mirrored, 0, 0
    for part in view.split("+"):
        move = re.fullmatch(r"(left|right|up|down)([1-9])", part.strip())
        if part.strip() == MIRRORED and not mirrored:
            mirrored = True
        elif move and int(move[2]) <= LARGEST_SHIFT and (axis := move[1] in ("left", "right")) not in moves:
            moves[axis] = sum(MOVES[move[1]]) * int(move[2])
        else:
            raise BadInput(
                f"view {view!r}: expected {IDENTITY}, or {MIRRORED}, left1 … left{LARGEST_SHIFT}, right, up "
                f"or down in the same way, joined by + and each direction once; received {part.strip()!r}"
            )
    return mirrored, moves.get(False, 0), moves.get(True, 0)


def variation_views(*, flip: bool, shift: int) -> tuple[str, ...]:
    """Return the views that `augmented` draws from, as `drawn_views` counts them."""
    moves = [*range(shift + 1), *range(-shift, 0)]
    drawn = itertools.product((False, True) if flip else (False,), moves, moves)
    # A picture that starts further down has moved up.
    return tuple(canonical_view(mirrored, -down, -right) for mirrored, down, right in drawn)
