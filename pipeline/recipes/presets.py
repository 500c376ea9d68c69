"""The presets: which schemes are compared on which data, one row each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import unknown_name
from pipeline.recipes.base import rows_by_name


@dataclass(frozen=True)
class Plan:
    """One line of a comparison: a scheme with its recipe, settings that differ, weights that differ."""

    scheme: str  # such as head:linear
    settings: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None  # None takes the preset's


@dataclass(frozen=True)
class Preset:
    """A comparison: data set and subset (0 for all images), weights, seeds, and what is trained."""

    name: str
    title: str
    dataset: str
    subset: int
    weights: str
    seeds: tuple[int, ...]
    plans: tuple[Plan, ...]


# What a sweep of many heads needs on tens of thousands of images: large batches, and mirrored images as well.
SWEPT = {"batch_size": 1024, "views": ["identity", "hflip"]}
# A thousand digits want more updates an epoch, and a mirrored digit is not a digit.
DIGITS = {"batch_size": 32, "flip": False}
TUNED_DIGITS = DIGITS | {"epochs": 4, "shift": 0, "test_views": ["identity"]}

FOUR_HEADS = (
    Plan("head:linear"),
    Plan("head:dense"),
    Plan("tuned-head:linear"),
    Plan("head:linear", weights="random"),
)

PRESETS: dict[str, Preset] = rows_by_name(
    Preset(
        name="demo",
        title="All schemes on scanned digits: a demonstration that needs no download",
        dataset="digits",
        subset=0,
        weights="hed",
        seeds=(0,),
        plans=(
            *FOUR_HEADS,
            Plan("fine-tune:block5", TUNED_DIGITS),
            Plan("fine-tune:whole", TUNED_DIGITS),
            Plan("fine-tune:whole", TUNED_DIGITS, weights="random"),
            Plan("from-scratch:lesson", DIGITS | {"epochs": 12}),
        ),
    ),
    Preset(
        name="quick",
        title="All schemes on a stratified subset of CIFAR-10",
        dataset="cifar10",
        subset=12_000,
        weights="imagenet",
        seeds=(0,),
        plans=(
            *FOUR_HEADS,
            Plan("fine-tune:block5", {"epochs": 3}),
            Plan("fine-tune:whole", {"epochs": 3}),
            Plan("from-scratch:lesson", {"epochs": 10}),
        ),
    ),
    Preset(
        name="full",
        title="All schemes on CIFAR-10",
        dataset="cifar10",
        subset=0,
        weights="imagenet",
        seeds=(0,),
        plans=(
            *map(Plan, ("head:linear", "head:dense", "head:dense-bn", "head:dense-bn-dropout")),
            Plan("tuned-head:linear", SWEPT),
            Plan("tuned-head:dense-bn-dropout", SWEPT),
            Plan("head:linear", weights="random"),
            *map(Plan, ("fine-tune:top_only", "fine-tune:block5", "fine-tune:blocks4_5", "fine-tune:whole")),
            Plan("from-scratch:lesson"),
        ),
    ),
)


def find_preset(name: str) -> Preset:
    """Return the row of a preset; raise BadInput that lists the rows otherwise."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
