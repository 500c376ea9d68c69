"""The table of presets: which schemes are compared on which data set."""

from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import Table


@dataclass(frozen=True)
class Plan:
    """One scheme of a comparison: its recipe, changed settings, and weights and size if not the preset's."""

    scheme: str  # such as head:linear
    settings: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None  # None: the preset's
    input_size: int | None = None  # pixels per side; None: the preset's


@dataclass(frozen=True)
class Preset:
    """A comparison: data set, subset (0: all images), weights, seeds, and the schemes to train."""

    name: str
    title: str
    dataset: str
    plans: tuple[Plan, ...]
    subset: int = 0
    weights: str = "imagenet"
    seeds: tuple[int, ...] = (0,)
    input_size: int | None = None  # pixels per side that networks see; None: the image size


# Sweeps over tens of thousands of images: large batches keep them fast, and mirrored images help.
LARGE_SWEEP = {"batch_size": 1024, "views": ["identity", "hflip"]}
TUNED_HEADS = Plan("tuned-head:dense-bn-dropout", LARGE_SWEEP), Plan("tuned-head:linear", LARGE_SWEEP)
HEADS = Plan("head:linear"), Plan("head:dense")
CONTROL = Plan("head:linear", weights="random")

PRESETS = Table(
    "preset",
    Preset(
        name="demo",
        title="Cached features compared with training from scratch",
        dataset="cifar10-sample",
        plans=(
            *HEADS,
            Plan("tuned-head:linear"),
            CONTROL,
            Plan("fine-tune:block5", {"warmup": 0.4}),  # an epoch has nine steps
            Plan("from-scratch:lesson-long", input_size=32),
        ),
        input_size=96,
    ),
    Preset(
        name="quick",
        title="All schemes, trained briefly",
        dataset="cifar10",
        subset=10_000,
        plans=(
            Plan("fine-tune:block5", {"epochs": 4}),
            *TUNED_HEADS,
            *HEADS,
            CONTROL,
            Plan("fine-tune:whole", {"epochs": 3}, input_size=32),
            Plan("from-scratch:lesson", {"epochs": 10}, input_size=32),
        ),
        input_size=96,
    ),
    Preset(
        name="full",
        title="All schemes",
        dataset="cifar10",
        plans=(
            Plan("fine-tune:block5"),
            *TUNED_HEADS,
            Plan("fine-tune:blocks4_5", input_size=64),
            Plan("fine-tune:whole", input_size=32),
            Plan("from-scratch:fast", input_size=32),
            Plan("from-scratch:lesson", input_size=32),
            Plan("fine-tune:top_only"),
            *HEADS,
            CONTROL,
        ),
        input_size=128,
    ),
)
