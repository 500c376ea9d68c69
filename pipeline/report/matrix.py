"""The picture of which differences are real: a cell for every two schemes of a comparison."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from pipeline.formatting import shown
from pipeline.report.figure import BLACK, new_figure, readable_on
from pipeline.report.label_placement import GREY
from pipeline.results.comparison import Comparison
from pipeline.results.verdicts import Ranking, Verdict, rankings, signed, span

CELL_WIDTH, CELL_HEIGHT = 1.0, 0.56  # inches: two lines of figures fit
NAMES_WIDTH, NAMES_HEIGHT = 4.2, 3.2  # inches for names, title, legend and caption around the cells
FEWEST_COLUMNS = 3  # what the legend needs in width; columns beyond the schemes stay empty
HOW_TO_READ = "A cell: points that its row is ahead of its column (95 % paired-bootstrap interval)"
UNSURE: dict[str, Any] = {"facecolor": "#f2f2f2", "edgecolor": "#c8c8c8", "hatch": "////", "linewidth": 0}
# Keeps the hatching off the figures.
BLANK: dict[str, Any] = {"facecolor": UNSURE["facecolor"], "linewidth": 0, "pad": 1.2}
SMALLEST_SCALE = 1.0  # points: differences below it would otherwise be drawn as dark as great ones


def differences(comparison: Comparison) -> Figure:
    """Draw by how many points each scheme is ahead of each less accurate one, hatched where it is not real.

    Schemes are ordered by accuracy; those of several data sets form blocks that share no cell.
    """
    found = rankings(comparison.differences)
    count = max(1, sum(len(ranking.accuracies) for ranking in found) - 1)
    columns = max(count, FEWEST_COLUMNS)
    size = {"width": NAMES_WIDTH + CELL_WIDTH * columns, "height": NAMES_HEIGHT + CELL_HEIGHT * count}
    figure, axes = new_figure(comparison.caption, **size)
    axes.set_title("Which differences are real")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if not found:
        axes.text(0.5, 0.5, "no two schemes were tested on the same images", ha="center", color=GREY)
        axes.set(xticks=[], yticks=[])
        return figure
    _draw_cells(axes, _cells(found))
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(count - 0.5, -0.5))
    _name_schemes(axes, found)
    return figure


def _cells(found: list[Ranking]) -> list[tuple[int, int, Verdict]]:
    """Return row, column and verdict of each pair: the first scheme has no column, the last one no row."""
    cells, start = [], 0
    for ranking in found:
        places = {name: place for place, name in enumerate(ranking.accuracies, start=start)}
        cells += [(places[a], places[b] - 1, verdict) for (a, b), verdict in ranking.verdicts.items()]
        start += len(places)
    return cells


def _draw_cells(axes: Axes, cells: list[tuple[int, int, Verdict]]) -> None:
    largest = max(100 * verdict.difference for *_, verdict in cells)
    scale = ScalarMappable(Normalize(0, max(largest, SMALLEST_SCALE)), "Blues")
    for row, column, verdict in cells:
        _draw_cell(axes, row, column, verdict=verdict, scale=scale)
    _explain(axes, scale)


def _explain(axes: Axes, scale: ScalarMappable) -> None:
    real = Patch(facecolor=scale.cmap(0.6), label="real: the darker, the larger")
    unsure = Patch(**UNSURE, label="not real after Holm's correction: may be chance")
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.01), "borderaxespad": 0}
    words: dict[str, Any] = {"title": textwrap.fill(HOW_TO_READ, 52), "fontsize": 9, "title_fontsize": 9}
    axes.legend(handles=[real, unsure], alignment="left", **place, **words)


def _draw_cell(axes: Axes, row: int, column: int, *, verdict: Verdict, scale: ScalarMappable) -> None:
    points: Any = 100 * verdict.difference  # a single number, of which matplotlib's types know nothing
    colour = scale.to_rgba(points)
    fill: dict[str, Any] = {"facecolor": colour, "linewidth": 0} if verdict.real else UNSURE
    axes.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, **fill))
    ink = readable_on(colour) if verdict.real else BLACK
    centred: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "color": ink,
        "bbox": None if verdict.real else BLANK,
    }
    weight = "bold" if verdict.real else "normal"
    axes.text(column, row - 0.15, signed(verdict.difference), fontsize=10, fontweight=weight, **centred)
    axes.text(column, row + 0.23, span(verdict.low, verdict.high), fontsize=7, **centred)


def _name_schemes(axes: Axes, found: list[Ranking]) -> None:
    several = len(found) > 1
    names, rows = [], []
    for ranking in found:
        of_data = f" · {ranking.data_set}" if several else ""
        names += [f"{name}{of_data}" for name in ranking.accuracies]
        rows += [shown(accuracy, "%") for accuracy in ranking.accuracies.values()]
    rows = [f"{name}   {accuracy}" for name, accuracy in zip(names, rows, strict=True)]
    axes.set_yticks(range(len(names) - 1), rows[:-1], fontsize=9)
    turned: dict[str, Any] = {"rotation": 30, "ha": "left", "rotation_mode": "anchor", "fontsize": 9}
    axes.set_xticks(range(len(names) - 1), names[1:], **turned)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
