"""Charts as SVG inside a page: drawn by matplotlib, coloured by the page's theme, each with its words.

Text stays text. What is black, grey or a grid line in a picture takes the page's own colour instead, so
one chart fits a light page and a dark one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report.drawing import BLACK, BLUE, GREY, LINES, SERIES, STYLE, marks_of, new_figure, percent
from pipeline.report.plots import time_axis

INK, FAINT, GRID = "#010203", "#040506", "#070809"  # stand for colours of the page; no plot has them
THEMED = {
    INK: "var(--ink)",
    BLACK: "var(--ink)",
    GREY.lower(): "var(--muted)",
    FAINT: "var(--faint)",
    GRID: "var(--grid)",
}
PAGE_STYLE = {
    **STYLE,
    **{"svg.fonttype": "none", "svg.hashsalt": "headstart"},  # the same numbers give the same bytes
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **{"axes.edgecolor": GREY, "grid.color": GRID},
}
SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
SMALL = {"width": 3.6, "height": 2.5}  # inches: two in a row on a tablet, one on a phone
MARKED = 25  # epochs; beyond this, markers hide the line
FIRM = 10  # images of a bin that the line of calibration goes through
HEADS = 10  # trainings that the break-even shows


def svg(name: str, words: str, function: Callable[..., Figure], *arguments: object) -> str:
    """Return the figure that function draws from arguments as an SVG element for a page.

    name is unlike that of any other chart of the page; words say what it shows. The title and the caption
    of the figure are left out: the page has its own.
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
    # Metadata, and style for everything, are no part of a page's element.
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _own(key, value, name))
    for size in ("width", "height"):
        del root.attrib[size]
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-words"}
    said = ElementTree.Element(f"{{{SVG}}}title", id=f"{name}-words")
    said.text = words
    root.insert(0, said)
    return ElementTree.tostring(root, encoding="unicode")


def _own(key: str, value: str, name: str) -> str:
    """Return an attribute with the page's colours and with identities that no other chart has."""
    if key == "id":
        return f"{name}-{value}"
    if key.endswith("href"):
        return value.replace("#", f"#{name}-", 1)
    value = value.replace("url(#", f"url(#{name}-")
    return re.sub(r"#[0-9a-fA-F]{6}", lambda found: THEMED.get(found[0].lower(), found[0]), value)


def curves(histories: dict[str, Sequence[pd.DataFrame]], chosen: str, quantity: str) -> Figure:
    """Draw accuracy or loss over seconds of training: chosen on top of val of all others in grey.

    histories has the tables of each scheme's runs by its label. The axes are the same whichever is chosen:
    seconds are logarithmic, loss (nats) is cut where a few first epochs lie far above all the rest.
    """
    figure, axes = new_figure("", **SMALL)
    everything = [history for found in histories.values() for history in found if len(history)]
    for label, found in histories.items():
        for history in found if label != chosen else ():
            axes.plot(history["seconds"], history[f"val_{quantity}"], color=FAINT, linewidth=0.8, zorder=1)
    for history in histories[chosen]:
        marks: dict[str, Any] = {"color": marks_of(chosen)["color"], "markersize": 4}
        marks["marker"] = "." if len(history) <= MARKED else None
        axes.plot(history["seconds"], history[f"train_{quantity}"], linestyle=":", linewidth=1.2, **marks)
        axes.plot(history["seconds"], history[f"val_{quantity}"], linewidth=1.8, zorder=3, **marks)
    if not any(len(history) for history in histories[chosen]):
        words = "no epochs: fitted in one step"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=GREY)
    if not everything:
        axes.set(xticks=[], yticks=[])
        return figure
    table = pd.concat(everything)
    seconds = table["seconds"][table["seconds"] > 0]
    if len(seconds):
        time_axis(axes, seconds.min() / 1.5, seconds.max() * 1.5, most=5)
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
    """Draw accuracy against confidence, a line a run; on the diagonal, confidence is what it says.

    tables have the columns of scores.reliability. The area of a point grows with its share of the images;
    the line leaves out those of a few, which lie where chance has put them.
    """
    figure, axes = new_figure("", **SMALL)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", zorder=1)
    for table in tables:
        firm = table[table["images"] >= FIRM]
        axes.plot(firm["confidence"], firm["accuracy"], color=BLUE, linewidth=1.2, zorder=2)
        sizes = 8 + 160 * table["images"] / table["images"].sum()
        marks: dict[str, Any] = {"color": BLUE, "alpha": 0.75, "clip_on": False, "linewidth": 0, "zorder": 3}
        axes.scatter(table["confidence"], table["accuracy"], s=sizes, **marks)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.xaxis.set_major_formatter(percent)
    axes.yaxis.set_major_formatter(percent)
    axes.set_xlabel("confidence", fontsize=9)
    axes.set_ylabel("right", fontsize=9)
    axes.tick_params(labelsize=9)
    return figure


def break_even(lines: dict[str, Sequence[float]]) -> Figure:
    """Draw the seconds (logarithmic) that the first 1 … n trainings took together, a line a way."""
    figure, axes = new_figure("", width=7.0, height=3.8)
    for (label, seconds), marks, line in zip(lines.items(), SERIES, LINES, strict=False):
        counts = range(1, len(seconds) + 1)
        axes.plot(counts, seconds, markersize=4, linestyle=line, label=label, **marks)
    known = [value for seconds in lines.values() for value in seconds]
    axes.set(xlabel="trainings", ylabel="time together (logarithmic)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    time_axis(axes, min(known) / 1.5, max(known) * 1.5, most=8, vertical=True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9)
    return figure
