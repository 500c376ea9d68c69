"""What extraction costs up to each block: exact multiply-adds, and measured or estimated seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.backbones.table import BACKBONES
from pipeline.errors import DamagedFile
from pipeline.features.sections import Section, finished_sections, multiply_adds
from pipeline.storage.layout import COSTS
from pipeline.storage.publishing import read_sealed
from pipeline.views import IDENTITY


@dataclass(frozen=True)
class DepthCost:
    """What it takes to run a backbone up to a block.

    multiply_adds are those of the convolutions for one image, share is their part of the whole backbone's,
    0..1. seconds are for all images of the data set; they were measured where an extraction stopped there.
    """

    multiply_adds: int
    share: float
    seconds: float
    measured: bool


def costs_by_depth(cache: Path) -> list[DepthCost]:
    """Return the cost up to each block, from the first on, by the finished sections of a feature cache.

    Seconds up to a block where no extraction of the identity view stopped are estimates: of the shallowest
    that went further, the seconds before its first image, and its seconds after it in proportion to the
    multiply-adds. Raises DamagedFile where no extraction reached a block.
    """
    sections = [section for section in finished_sections(cache) if section.view == IDENTITY]
    if not sections:
        raise DamagedFile(f"{cache}: no finished features of the identity view; extract them first")
    base = sections[0].base
    taps = BACKBONES[base["backbone"]].taps
    return [_cost_up_to(tap, base, taps, sections) for tap in taps]


def _cost_up_to(tap: str, base: dict[str, Any], taps: tuple[str, ...], sections: list[Section]) -> DepthCost:
    work, whole = multiply_adds(base, (tap,)), multiply_adds(base, taps[-1:])
    reaching = [section for section in sections if taps.index(_deepest(section, taps)) >= taps.index(tap)]
    if not reaching:
        raise DamagedFile(f"{sections[0].cache}: no finished features reach {tap}; extract all layers")
    near = min(reaching, key=lambda section: (taps.index(_deepest(section, taps)), -len(section.layers)))
    costs = read_sealed(near.folder / COSTS)
    after_start = min(costs["seconds"], costs["images"] / costs["images_per_second"])
    part = work / multiply_adds(base, (_deepest(near, taps),))
    return DepthCost(
        multiply_adds=work,
        share=work / whole,
        seconds=round(costs["seconds"] - after_start + part * after_start, 3),
        measured=_deepest(near, taps) == tap,
    )


def _deepest(section: Section, taps: tuple[str, ...]) -> str:
    return max(section.layers, key=taps.index)
