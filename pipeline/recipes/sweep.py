"""The space of a sweep of heads: the settings to try, and which of them train in one computation."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BadInput
from pipeline.notation import Block, LayerSpec, names_activation, parse_blocks
from pipeline.recipes.heads import HEADS, Head, NetworkHead
from pipeline.recipes.settings import checked_all, override
from pipeline.recipes.space import bad_space

MAX_COMBINATIONS = 4096  # a mistyped space should not run for a week
SEED = "seed"
SHARED_BY_HEADS = ("views", "fit_on", "label_budget", "class_weights", "temperature", "variance_floor")
STACKED = ("learning_rate", "weight_decay", "dropout", "label_smoothing", SEED)  # in one computation


@dataclass(frozen=True)
class SweepSpec:
    """A sweep of heads: a row of HEADS, all its settings and the space to try, both as JSON values.

    precision is that of training networks, weights a name for the caption, labels the label budgets of a
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
        """Return the values to try, by setting."""
        head = self.head()
        return checked_space(head, {**dict.fromkeys(head.space, ()), **self.space})


def checked_space(recipe: Head, space: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the space to try: the recipe's own, updated by space; raise BadInput.

    An axis is a setting of the recipe or "seed"; a layer set is a list of layers or text with commas.
    Repeated values are tried once.
    """
    axes: dict[str, tuple[Any, ...]] = {}
    for name, values in {**recipe.space, **space}.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
            raise bad_space(recipe, f"expected a list of values for {name}, received {values!r}")
        axis = tuple(values)
        if not axis:
            continue  # an empty list leaves the setting as the recipe has it
        if name in SHARED_BY_HEADS:
            raise bad_space(recipe, f"{name} is the same for all heads of a sweep; set it outside the space")
        if name != SEED:
            axis = checked_all(recipe, name, axis)
        elif bad := [seed for seed in axis if type(seed) is not int or seed < 0]:
            raise bad_space(recipe, f"expected seeds of 0 or more, received {bad[0]!r}")
        axes[name] = tuple(dict.fromkeys(axis))
    count = math.prod(len(values) for values in axes.values())
    if count > MAX_COMBINATIONS:
        raise bad_space(recipe, f"expected at most {MAX_COMBINATIONS} combinations, received {count}")
    points = points_of(axes)
    for group in groups_of(recipe, points):
        shared = override(recipe, separate_settings(recipe, points[group[0]]))
        shared.check()
        if isinstance(shared, NetworkHead):
            for block in parse_blocks(shared.dense_blocks, len(shared.units), dense=True):
                dense_parts(block)  # raises if heads with this block cannot be trained together
    return axes


def points_of(space: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return every combination of a space; the last axis varies fastest."""
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def layers_of(recipe: Head, space: dict[str, tuple[Any, ...]]) -> tuple[str, ...]:
    """Return all layers that a sweep reads, without duplicates, in the order in which they are named."""
    return tuple(dict.fromkeys(layer for layers in space.get("layers", (recipe.layers,)) for layer in layers))


def groups_of(recipe: Head, points: list[dict[str, Any]]) -> list[list[int]]:
    """Return groups of point numbers; one computation tries each group."""
    groups: dict[str, list[int]] = {}
    for number, point in enumerate(points):
        groups.setdefault(repr(separate_settings(recipe, point)), []).append(number)
    return list(groups.values())


def separate_settings(recipe: Head, point: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a point that need a separate computation."""
    if isinstance(recipe, NetworkHead):
        return {name: value for name, value in point.items() if name not in (*STACKED, "layers")}
    return {name: value for name, value in point.items() if name == "layers"}


def dense_parts(block: Block) -> list[tuple[tuple[LayerSpec, ...], str | None]]:
    """Return for each dense layer of a block the layers up to the next one, and its default activation."""
    parts: list[list[LayerSpec]] = []
    activation = None if names_activation(block) else "relu"
    for layer in block:
        if layer.word.kind == "dense":
            parts.append([])
        elif not parts:
            raise BadInput(
                f"sweep: expected dense blocks that start with dense, received one that starts with "
                f"{layer.word.name}; train such heads one by one"
            )
        else:
            parts[-1].append(layer)
    return [(tuple(layers), activation) for layers in parts]
