"""Inline SVG charts: drawn by matplotlib, colored by the page's theme, each with a text alternative.

Text stays text. Black, grey and grid lines are replaced by CSS variables, so one chart works in the light
and in the dark theme.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report.drawing import BLACK, BLUE, DASHES, GRAY, SERIES, STYLE, new_figure, percent, style_of
from pipeline.report.plots import time_axis

INK, FAINT, GRID = "#010203", "#040506", "#070809"  # placeholders for the page's colors; no plot uses them
THEMED = {
    INK: "var(--ink)",
    BLACK: "var(--ink)",
    GRAY.lower(): "var(--muted)",
    FAINT: "var(--faint)",
    GRID: "var(--grid)",
}
PAGE_STYLE = {
    **STYLE,
    **{"svg.fonttype": "none", "svg.hashsalt": "headstart"},  # the same numbers give the same bytes
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **{"axes.edgecolor": GRAY, "grid.color": GRID},
}
SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
SMALL = {"width": 3.6, "height": 2.5}  # inches: two in a row on a tablet, one on a phone
MAX_MARKED_EPOCHS = 25  # beyond this, markers hide the line
MIN_BIN_IMAGES = 10  # for a bin to be part of the calibration line
MAX_TRAININGS = 10  # of the break-even chart


def svg(name: str, alt: str, function: Callable[..., Figure], *arguments: object) -> str:
    """Return the figure that function draws from arguments as an SVG element for a page.

    name must be unique on the page; alt describes the chart. The figure's title and caption are removed,
    since the page has its own.
    """
    with matplotlib.style.context(["default", PAGE_STYLE]):
        figure = function(*arguments)
        for axes in figure.axes:
            axes.set_title("")
        figure.supxlabel("")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", LINK)
    root = ElementTree.fromstring(text.getvalue())
    # Global styles do not belong in an inline element.
    for parent in list(root.iter()):
        for child in parent.findall(f"{{{SVG}}}style"):
            parent.remove(child)
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _page_attribute(key, value, name))
    del root.attrib["width"], root.attrib["height"]
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-alt"}
    title = ElementTree.Element(f"{{{SVG}}}title", id=f"{name}-alt")
    title.text = alt
    root.insert(0, title)
    return ElementTree.tostring(root, encoding="unicode")


def _page_attribute(key: str, value: str, name: str) -> str:
    """Return an attribute's value with the page's colors and with ids that are unique on the page."""
    if key == "id":
        return f"{name}-{value}"
    if key.endswith("href"):
        return value.replace("#", f"#{name}-", 1)
    value = value.replace("url(#", f"url(#{name}-")
    return re.sub(r"#[0-9a-fA-F]{6}", lambda match: THEMED.get(match[0].lower(), match[0]), value)


def learning_curves(histories: dict[str, Sequence[pd.DataFrame]], highlighted: str, quantity: str) -> Figure:
    """Draw accuracy or loss over seconds of training: highlighted in color, val of all others in grey.

    histories maps the label of each scheme to its runs' tables. The axes are the same for all schemes:
    seconds are logarithmic; the loss axis (nats) cuts off a few first epochs far above the rest.
    """
    figure, axes = new_figure("", **SMALL)
    nonempty = [history for tables in histories.values() for history in tables if len(history)]
    for label, tables in histories.items():
        for history in tables if label != highlighted else ():
            axes.plot(history["seconds"], history[f"val_{quantity}"], color=FAINT, linewidth=0.8, zorder=1)
    for history in histories[highlighted]:
        marks: dict[str, Any] = {"color": style_of(highlighted)["color"], "markersize": 4}
        marks["marker"] = "." if len(history) <= MAX_MARKED_EPOCHS else None
        axes.plot(history["seconds"], history[f"train_{quantity}"], linestyle=":", linewidth=1.2, **marks)
        axes.plot(history["seconds"], history[f"val_{quantity}"], linewidth=1.8, zorder=3, **marks)
    if not any(len(history) for history in histories[highlighted]):
        text = "no epochs: fitted in one step"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GRAY)
    if not nonempty:
        axes.set(xticks=[], yticks=[])
        return figure
    table = pd.concat(nonempty)
    seconds = table["seconds"][table["seconds"] > 0]
    if len(seconds):
        time_axis(axes, seconds.min() / 1.5, seconds.max() * 1.5, max_ticks=5)
    values = pd.concat([table[f"train_{quantity}"], table[f"val_{quantity}"]]).dropna()
    if quantity == "accuracy":
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(percent)
    elif len(values):
        axes.set_ylim(0, 1.05 * min(values.max(), max(3 * values.median(), values.quantile(0.9))))
        axes.set_ylabel("nats", fontsize=9)
    axes.tick_params(labelsize=9)
    return figure


def reliability(tables: Sequence[pd.DataFrame]) -> Figure:
    """Draw accuracy against confidence, one line per run; on the diagonal, a run is perfectly calibrated.

    tables have the columns of scores.reliability. The area of a point grows with its share of the images;
    the line skips bins with fewer than MIN_BIN_IMAGES, which are mostly noise.
    """
    figure, axes = new_figure("", **SMALL)
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle="--", zorder=1)
    for table in tables:
        large = table[table["images"] >= MIN_BIN_IMAGES]
        axes.plot(large["confidence"], large["accuracy"], color=BLUE, linewidth=1.2, zorder=2)
        sizes = 8 + 160 * table["images"] / table["images"].sum()
        marks: dict[str, Any] = {"color": BLUE, "alpha": 0.75, "clip_on": False, "linewidth": 0, "zorder": 3}
        axes.scatter(table["confidence"], table["accuracy"], s=sizes, **marks)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    for axis, name in ((axes.xaxis, "confidence"), (axes.yaxis, "accuracy")):
        axis.set_major_formatter(percent)
        axis.set_label_text(name, fontsize=9)
    axes.tick_params(labelsize=9)
    return figure


def break_even(lines: dict[str, Sequence[float]]) -> Figure:
    """Draw the total seconds (logarithmic) of the first 1 … n trainings, one line per method."""
    figure, axes = new_figure("", width=7.0, height=3.8)
    for (label, seconds), marks, line in zip(lines.items(), SERIES, DASHES, strict=False):
        counts = range(1, len(seconds) + 1)
        axes.plot(counts, seconds, markersize=4, linestyle=line, label=label, **marks)
    times = [value for seconds in lines.values() for value in seconds]
    axes.set(xlabel="trainings", ylabel="total time (logarithmic)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    time_axis(axes, min(times) / 1.5, max(times) * 1.5, max_ticks=8, vertical=True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1, fontsize=9)
    return figure
