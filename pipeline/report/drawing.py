"""What all figures share: style, colours, marks, the caption under them, and how one is published as PNG.

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
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from pipeline.runs.result import family_of
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
BLACK, GREY, BLUE, ORANGE = "#000000", "#5a5a5a", "#0072B2", "#D55E00"
GREEN, PURPLE, SKY, AMBER = "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
SERIES: list[dict[str, Any]] = [  # for lines and points that belong to no family
    {"color": colour, "marker": marker}
    for colour, marker in zip((BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, BLACK), "os^DvPX", strict=True)
]
LINES = ("-", "--", ":", "-.")
BARS: dict[str, Any] = {"color": "#bcd9ee", "edgecolor": BLUE, "linewidth": 0.8}
POINTS: dict[str, Any] = {"linestyle": "none", "markersize": 5.5, "capsize": 3}  # with error bars
OFFSET: dict[str, Any] = {"textcoords": "offset points", "annotation_clip": False}
CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}
NAMED_CLASSES = 40  # beyond this, names along an axis collide
LONGEST_NAME = 22  # of a class; a longer one would take the width from the plot


FAMILIES: dict[str, dict[str, Any]] = {  # shape and colour both tell the families of schemes apart
    "head": {"label": "head on cached features", "color": BLUE, "marker": "o"},
    "tuned-head": {"label": "head chosen by a sweep", "color": SKY, "marker": "P"},
    "fine-tune": {"label": "fine-tuned", "color": ORANGE, "marker": "s"},
    "from-scratch": {"label": "from scratch", "color": GREEN, "marker": "^"},
    "other": {"label": "other", "color": PURPLE, "marker": "D"},
}


def marks_of(scheme: str) -> dict[str, Any]:
    """Return the marks of a scheme's family by the scheme's name or label."""
    return FAMILIES.get(family_of(scheme), FAMILIES["other"])


def new_figure(caption: str, *, width: float = 8.0, height: float = 5.0) -> tuple[Figure, Axes]:
    """Return a figure of width by height inches with one pair of axes and the caption under them."""
    figure = empty_figure(caption, width=width, height=height)
    return figure, figure.add_subplot()


def empty_figure(
    caption: str, *, width: float, height: float, title: str = "", pads: tuple[float, float] = (0.1, 0.08)
) -> Figure:
    """Return a figure of width by height inches without axes, with a caption below and a title above.

    pads are the inches kept free beside the axes, and above and below them.
    """
    layout = ConstrainedLayoutEngine(w_pad=pads[0], h_pad=pads[1])
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    # A line never starts with the dot between two facts.
    wrapped = textwrap.fill(caption.replace(" ·", "\u00a0·"), width=int(width * 15), break_long_words=False)
    figure.supxlabel(wrapped, x=0.012, ha="left", fontsize=8, color=GREY)
    if title:
        figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
    return figure


def percent(fraction: float, _: object = None) -> str:
    """Return the name of a tick at a fraction of 1, e.g. "20 %"."""
    return f"{100 * fraction:g} %"


def short(name: str) -> str:
    """Return the name of a class as it fits beside an axis."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def error_bars(rows: pd.DataFrame, value: str, stem: str | None = None) -> list[pd.Series] | None:
    """Return how far a column of fractions lies from its bounds below and above, in per cent; None of NaN.

    The bounds are the columns "<stem>low" and "<stem>high"; the stem is "<value>_" unless another is given.
    """
    stem = f"{value}_" if stem is None else stem
    lengths = [rows[value] - rows[f"{stem}low"], rows[f"{stem}high"] - rows[value]]
    return [100 * length.clip(lower=0) for length in lengths] if lengths[0].notna().any() else None


def heat_map(axes: Axes, grid: Any, bar: dict[str, Any], **options: Any) -> AxesImage:
    """Draw a grid of numbers in shades of blue, and the colour bar beside it; options are imshow's."""
    image = axes.imshow(grid, cmap="Blues", **options)
    axes.grid(False)
    cast(Any, axes.figure.colorbar(image, ax=axes, **bar)).outline.set_visible(False)
    return image


def say_instead(axes: Axes, words: str) -> None:
    """Write words into axes that have nothing to show."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=GREY)
    axes.set(xticks=[], yticks=[])


def write_above(axes: Axes, x: float, words: str, *, shift: float = 0, **style: Any) -> None:
    """Write words over the upper edge of axes at x, shifted to the right by so many points."""
    style = {"ha": "center", "va": "bottom", "fontsize": 9, **OFFSET, **style}
    axes.annotate(words, (x, 1), (shift, 3), xycoords=axes.get_xaxis_transform(), **style)


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
