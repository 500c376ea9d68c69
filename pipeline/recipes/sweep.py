"""The space of a sweep of heads: which settings are tried, and which one computation can try together."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BadInput
from pipeline.notation import Block, Step, names_activation, parse_dense_blocks
from pipeline.recipes.heads import HEADS, Head, NetworkHead
from pipeline.recipes.settings import checked_all, override
from pipeline.recipes.space import bad_space

LARGEST_SPACE = 4096  # combinations; a mistyped space should not run for a week
SEED = "seed"
FIXED = ("views", "fit_on", "label_budget", "temperature", "variance_floor")  # the same for all heads
STACKED = ("learning_rate", "weight_decay", "dropout", "label_smoothing", SEED)  # tried in one computation


@dataclass(frozen=True)
class SweepSpec:
    """A sweep of heads: a row of HEADS with all its settings and the space to try, both as JSON has them.

    precision is what networks are trained in, weights a name for the caption, labels the label budgets of a
    curve. fingerprint is everything that the result depends on.
    """

    recipe: str
    settings: dict[str, Any]
    space: dict[str, Any]
    fingerprint: dict[str, Any]
    precision: str = "float32"
    weights: str = ""
    labels: tuple[str, ...] = ()

    def head(self) -> Head:
        """Return the recipe."""
        return override(HEADS[self.recipe], self.settings)

    def axes(self) -> dict[str, tuple[Any, ...]]:
        """Return the values to try, by setting, those of the space and no others."""
        head = self.head()
        return checked_space(head, {**dict.fromkeys(head.space, ()), **self.space})


def checked_space(recipe: Head, space: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the space to try: the recipe's own with axes replaced or added by space; raise BadInput.

    An axis is a setting of the recipe or "seed"; a layer set is a list of layers or a text with commas. A
    value that is named twice is tried once.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for name, values in {**recipe.space, **space}.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
            raise bad_space(recipe, f"expected a list of values for {name}, received {values!r}")
        wanted = tuple(_listed(value) if name in ("layers", "units") else value for value in values)
        if not wanted:
            continue  # an empty list leaves the setting as the recipe has it
        if name in FIXED:
            shared = "which all heads of a sweep share; set it beside the space"
            raise bad_space(recipe, f"expected no axis {name}, {shared}")
        if name != SEED:
            wanted = checked_all(recipe, name, wanted)
        elif bad := [seed for seed in wanted if type(seed) is not int or seed < 0]:
            raise bad_space(recipe, f"expected seeds of 0 or more, received {bad[0]!r}")
        found[name] = tuple(dict.fromkeys(wanted))
    count = math.prod(len(values) for values in found.values())
    if count > LARGEST_SPACE:
        raise bad_space(recipe, f"expected {LARGEST_SPACE} combinations at most, received {count}")
    points = points_of(found)
    for group in groups_of(recipe, points):
        together = override(recipe, apart(recipe, points[group[0]]))
        together.check()
        if isinstance(together, NetworkHead):
            for block in parse_dense_blocks(together.dense_blocks, len(together.units)):
                dense_parts(block)  # raises for what cannot be trained at once
    return found


def _listed(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def points_of(space: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return every combination of a space; the last axis varies fastest."""
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def layers_of(recipe: Head, space: dict[str, tuple[Any, ...]]) -> tuple[str, ...]:
    """Return all layers that a sweep reads, each once, in the order in which they are named."""
    return tuple(dict.fromkeys(layer for layers in space.get("layers", (recipe.layers,)) for layer in layers))


def groups_of(recipe: Head, points: list[dict[str, Any]]) -> list[list[int]]:
    """Return the numbers of the points that one computation tries together."""
    groups: dict[str, list[int]] = {}
    for number, point in enumerate(points):
        groups.setdefault(repr(apart(recipe, point)), []).append(number)
    return list(groups.values())


def apart(recipe: Head, point: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a point that need a computation of their own."""
    if isinstance(recipe, NetworkHead):
        return {name: value for name, value in point.items() if name not in (*STACKED, "layers")}
    return {name: value for name, value in point.items() if name == "layers"}


def dense_parts(block: Block) -> list[tuple[tuple[Step, ...], str | None]]:
    """Return for each dense of a block the steps up to the next, and the activation that is implied."""
    parts: list[list[Step]] = []
    implied = None if names_activation(block) else "relu"
    for step in block:
        if step.word.kind == "dense":
            parts.append([])
        elif not parts:
            raise BadInput(
                f"a sweep: expected dense blocks that begin with dense, received one that begins with "
                f"{step.word.name}; train such heads one by one"
            )
        else:
            parts[-1].append(step)
    return [(tuple(steps), implied) for steps in parts]
