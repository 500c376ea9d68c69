"""Views: fixed variants of the images; the features of each view are cached separately.

A view is `identity` or parts joined by `+`: `hflip` flips horizontally; `left2`, `right2`, `up2` and `down2`
shift the image by that many pixels (1 to 8) and fill the border by reflection.
"""

import itertools
import re

from pipeline.errors import BadInput

IDENTITY, HFLIP = "identity", "hflip"
LARGEST_SHIFT = 8  # pixels
SHIFTS = {"left": ("right", -1), "right": ("right", 1), "up": ("down", -1), "down": ("down", 1)}


def parse_views(text: str) -> tuple[str, ...]:
    """Return the views in text (comma-separated) as canonical names without duplicates; raise BadInput."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise BadInput(f"views {text!r}: expected at least one, such as {IDENTITY} or {IDENTITY},{HFLIP}")
    return tuple(dict.fromkeys(view_name(*parse_view(name)) for name in names))


def view_name(flipped: bool, down: int, right: int) -> str:
    """Return the canonical name of a view; the inverse of parse_view."""
    parts = [HFLIP] if flipped else []
    parts += [f"{'right' if right > 0 else 'left'}{abs(right)}"] if right else []
    parts += [f"{'down' if down > 0 else 'up'}{abs(down)}"] if down else []
    return "+".join(parts) or IDENTITY


def parse_view(view: str) -> tuple[bool, int, int]:
    """Return whether a view is flipped, and its shift down and to the right in pixels; raise BadInput."""
    flipped, shifts = False, {}
    if view == IDENTITY:
        return flipped, 0, 0
    for part in view.split("+"):
        shift = re.fullmatch(r"(left|right|up|down)([1-9])", part.strip())
        if part.strip() == HFLIP and not flipped:
            flipped = True
        elif shift and int(shift[2]) <= LARGEST_SHIFT and SHIFTS[shift[1]][0] not in shifts:
            direction, sign = SHIFTS[shift[1]]
            shifts[direction] = sign * int(shift[2])
        else:
            raise BadInput(
                f"view {view!r}: expected {IDENTITY}, or {HFLIP}, left1 … left{LARGEST_SHIFT}, and right, up "
                f"or down likewise, joined by + with at most one per axis; received {part.strip()!r}"
            )
    return flipped, shifts.get("down", 0), shifts.get("right", 0)


def augmentation_views(*, flip: bool, shift: int) -> tuple[str, ...]:
    """Return the views that `augment` draws from, in the order that `draw_views` indexes."""
    offsets = [*range(shift + 1), *range(-shift, 0)]
    crops = itertools.product((False, True) if flip else (False,), offsets, offsets)
    # A crop that starts further down shifts the image up.
    return tuple(view_name(flipped, -down, -right) for flipped, down, right in crops)
