"""What all figures share: style, colours, the caption under them, and how one is published as PNG.

Figures are drawn without global state, so the same numbers give the same bytes.
Colours are Okabe and Ito's (Color Universal Design, 2008), told apart with every common colour vision.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from pipeline.report.label_placement import GREY
from pipeline.storage.publishing import published

DPI = 120
PALETTE_COLOURS = 256  # they hold a plot's few hues and their edges, in a third of the bytes
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 10,
    "text.parse_math": False,  # a class may be named $5
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
}
BLACK, BLUE, ORANGE = "#000000", "#0072B2", "#D55E00"
GREEN, PURPLE, SKY, AMBER = "#009E73", "#CC79A7", "#56B4E9", "#E69F00"


def new_figure(caption: str, *, width: float = 8.0, height: float = 5.0) -> tuple[Figure, Axes]:
    """Return a figure of width by height inches with one pair of axes and the caption under them."""
    figure = empty_figure(caption, width=width, height=height)
    return figure, figure.add_subplot()


def empty_figure(caption: str, *, width: float, height: float) -> Figure:
    """Return a figure of width by height inches without axes, and the caption at its lower edge."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    pad(figure, width=0.1, height=0.08)
    # A line never starts with the dot between two facts.
    wrapped = textwrap.fill(caption.replace(" ·", "\u00a0·"), width=int(width * 15), break_long_words=False)
    figure.supxlabel(wrapped, x=0.012, ha="left", fontsize=8, color=GREY)
    return figure


def pad(figure: Figure, *, width: float, height: float) -> None:
    """Keep so many inches free around the axes of a figure of empty_figure."""
    cast("ConstrainedLayoutEngine", figure.get_layout_engine()).set(w_pad=width, h_pad=height)


def publish_figure(
    path: Path, function: Callable[..., Figure], *arguments: object, colours: int | None = PALETTE_COLOURS
) -> None:
    """Publish the figure that function draws from arguments as PNG at path, in the style of all plots.

    colours is the size of its palette; None keeps every colour, as photographs need.
    """
    # "default" first: a user's own matplotlibrc must not change the picture.
    with matplotlib.style.context(["default", STYLE]):
        figure = function(*arguments)
        figure.canvas.draw()
    picture = Image.fromarray(np.asarray(cast(Any, figure.canvas).buffer_rgba())).convert("RGB")
    if colours:
        picture = picture.quantize(colours)
    with published(path) as scratch:
        picture.save(scratch, format="PNG", optimize=True, dpi=(DPI, DPI))


def readable_on(colour: Sequence[float] | np.ndarray) -> str:
    """Return black or white, whichever contrasts more with an RGB(A) colour in 0..1 (WCAG 2, luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return BLACK if luminance > 0.179 else "#ffffff"
