"""Shared by all figures: style, colors, markers, captions, and publishing as PNG.

Figures are drawn without global state, so the same numbers give the same bytes. The colors are those of
Okabe and Ito (Color Universal Design, 2008), which color-blind readers can distinguish.
"""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from pipeline.runs.result import family_of
from pipeline.storage.publishing import published

DPI = 120
PALETTE_SIZE = 256  # enough for the few hues of a plot and their antialiased edges, in a third of the bytes
STYLE = {
    "font.family": "DejaVu Sans",  # ships with Matplotlib, so text looks the same on every machine
    "font.size": 10,
    "text.parse_math": False,  # a class name may contain $
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
BLACK, GRAY, BLUE, ORANGE = "#000000", "#5a5a5a", "#0072B2", "#D55E00"
GREEN, PURPLE, SKY, AMBER = "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
SERIES: list[dict[str, Any]] = [  # for lines and points outside FAMILIES
    {"color": color, "marker": marker}
    for color, marker in zip((BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, BLACK), "os^DvPX", strict=True)
]
DASHES = ("-", "--", ":", "-.")
BARS: dict[str, Any] = {"color": "#bcd9ee", "edgecolor": BLUE, "linewidth": 0.8}
POINTS: dict[str, Any] = {"linestyle": "none", "markersize": 5.5, "capsize": 3}  # with error bars
OFFSET: dict[str, Any] = {"textcoords": "offset points", "annotation_clip": False}
CENTERED: dict[str, Any] = {"ha": "center", "va": "center"}
MAX_NAMED_CLASSES = 40  # with more, tick labels overlap
MAX_NAME_LENGTH = 22  # of a class, in characters; a longer one would shrink a plot
FAMILIES: dict[str, dict[str, Any]] = {  # shape and color both distinguish the families of schemes
    "head": {"label": "head on cached features", "color": BLUE, "marker": "o"},
    "tuned-head": {"label": "tuned head", "color": SKY, "marker": "P"},
    "fine-tune": {"label": "fine-tuned", "color": ORANGE, "marker": "s"},
    "from-scratch": {"label": "from scratch", "color": GREEN, "marker": "^"},
    "other": {"label": "other", "color": PURPLE, "marker": "D"},
}


def style_of(scheme: str) -> dict[str, Any]:
    """Return the legend label, color and marker of a scheme's family, by the scheme's name or label."""
    return FAMILIES.get(family_of(scheme), FAMILIES["other"])


def new_figure(caption: str, *, width: float = 8.0, height: float = 5.0) -> tuple[Figure, Axes]:
    """Return a figure of width by height inches with one set of axes and a caption below."""
    figure = empty_figure(caption, width=width, height=height)
    return figure, figure.add_subplot()


def empty_figure(
    caption: str, *, width: float, height: float, title: str = "", pads: tuple[float, float] = (0.1, 0.08)
) -> Figure:
    """Return a figure of width by height inches without axes, with a caption below and a title above.

    pads are the horizontal and vertical padding around axes, in inches.
    """
    layout = ConstrainedLayoutEngine(w_pad=pads[0], h_pad=pads[1])
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    # Never start a line with the separator dot.
    wrapped = textwrap.fill(caption.replace(" ·", "\u00a0·"), width=int(width * 15), break_long_words=False)
    figure.supxlabel(wrapped, x=0.012, ha="left", fontsize=8, color=GRAY)
    if title:
        figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
    return figure


def percent(fraction: float, _: object = None) -> str:
    """Return the tick label of a fraction, e.g. "20 %"."""
    return f"{100 * fraction:g} %"


def shorten(text: str, max_length: int = MAX_NAME_LENGTH) -> str:
    """Return text without its middle if it is too long: names often differ only at the end."""
    if len(text) <= max_length:
        return text
    head = (max_length - 1) // 3
    return f"{text[:head]}…{text[len(text) - (max_length - 1 - head) :]}"


def error_bars(rows: pd.DataFrame, value: str, stem: str | None = None) -> list[pd.Series] | None:
    """Return the lengths of error bars below and above a column of fractions, in percent; None if all NaN.

    The bounds are the columns "<stem>low" and "<stem>high"; stem is "<value>_" by default.
    """
    stem = f"{value}_" if stem is None else stem
    lengths = [rows[value] - rows[f"{stem}low"], rows[f"{stem}high"] - rows[value]]
    return [100 * length.clip(lower=0) for length in lengths] if lengths[0].notna().any() else None


def heat_map(axes: Axes, grid: Any, bar: dict[str, Any], **options: Any) -> None:
    """Draw a grid of numbers as a heat map with a color bar; options go to imshow."""
    image = axes.imshow(grid, cmap="Blues", **options)
    axes.grid(False)
    cast(Any, axes.figure.colorbar(image, ax=axes, **bar)).outline.set_visible(False)


def write_placeholder(axes: Axes, text: str) -> None:
    """Write text into axes without data."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GRAY)
    axes.set(xticks=[], yticks=[])


def annotate_above(axes: Axes, x: float, text: str, *, shift: float = 0, **style: Any) -> None:
    """Write text above the upper edge of axes at x, moved right by shift points."""
    style = {"ha": "center", "va": "bottom", "fontsize": 9, **OFFSET, **style}
    axes.annotate(text, (x, 1), (shift, 3), xycoords=axes.get_xaxis_transform(), **style)


def publish_figure(
    path: Path, function: Callable[..., Figure], *arguments: object, colors: int | None = PALETTE_SIZE
) -> None:
    """Publish the figure that function(*arguments) returns as PNG at path, in the style of all plots.

    colors is the palette size; None keeps all colors, as photographs need.
    """
    # "default" first: a user's own matplotlibrc must not change the figure.
    with matplotlib.style.context(["default", STYLE]):
        figure = function(*arguments)
        figure.canvas.draw()
    image = Image.fromarray(np.asarray(cast(Any, figure.canvas).buffer_rgba())).convert("RGB")
    if colors:
        image = image.quantize(colors)
    with published(path) as scratch:
        image.save(scratch, format="PNG", optimize=True, dpi=(DPI, DPI))
