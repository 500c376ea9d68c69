"""The picture of which differences are real: a cell for every two schemes of a comparison."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from pipeline.formatting import format_value
from pipeline.report.drawing import BLACK, CENTRED, new_figure, readable_on, say_instead
from pipeline.results.comparison import Comparison
from pipeline.results.verdicts import Ranking, Verdict, rankings, signed, span

CELL_WIDTH, CELL_HEIGHT = 1.0, 0.56  # inches: two lines of figures fit
NAMES_WIDTH, NAMES_HEIGHT = 4.2, 3.2  # inches for names, title, legend and caption around the cells
FEWEST_COLUMNS = 3  # what the legend needs in width; columns beyond the schemes stay empty
HOW_TO_READ = "A cell: points that its row is ahead of its column (95 % paired-bootstrap interval)"
UNSURE: dict[str, Any] = {"facecolor": "#f2f2f2", "edgecolor": "#c8c8c8", "hatch": "////", "linewidth": 0}
BLANK = {"facecolor": "#f2f2f2", "linewidth": 0, "pad": 1.2}  # keeps the hatching off the figures
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
        say_instead(axes, "no two schemes were tested on the same images")
        return figure
    _draw_cells(axes, found)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(count - 0.5, -0.5))
    _name_schemes(axes, found)
    return figure


def _draw_cells(axes: Axes, found: list[Ranking]) -> None:
    """Draw a cell for each pair of each ranking: the first scheme has no column, the last one no row."""
    largest = max(100 * verdict.difference for ranking in found for verdict in ranking.verdicts.values())
    scale = ScalarMappable(Normalize(0, max(largest, SMALLEST_SCALE)), "Blues")
    start = 0
    for ranking in found:
        places = {name: place for place, name in enumerate(ranking.accuracies, start=start)}
        for (ahead, behind), verdict in ranking.verdicts.items():
            _draw_cell(axes, places[ahead], places[behind] - 1, verdict, scale)
        start += len(places)
    real = Patch(facecolor=scale.cmap(0.6), label="real: the darker, the larger")
    unsure = Patch(**UNSURE, label="not real after Holm's correction: may be chance")
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.01), "borderaxespad": 0}
    words: dict[str, Any] = {"title": textwrap.fill(HOW_TO_READ, 52), "fontsize": 9, "title_fontsize": 9}
    axes.legend(handles=[real, unsure], alignment="left", **place, **words)


def _draw_cell(axes: Axes, row: int, column: int, verdict: Verdict, scale: ScalarMappable) -> None:
    cell, style, weight = UNSURE, {"color": BLACK, "bbox": BLANK, **CENTRED}, "normal"
    if verdict.real:
        colour = scale.to_rgba(np.array(100 * verdict.difference))
        cell = {"facecolor": colour, "linewidth": 0}
        style, weight = {"color": readable_on(colour), **CENTRED}, "bold"
    axes.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, **cell))
    axes.text(column, row - 0.15, signed(verdict.difference), fontsize=10, fontweight=weight, **style)
    axes.text(column, row + 0.23, span(verdict.low, verdict.high), fontsize=7, **style)


def _name_schemes(axes: Axes, found: list[Ranking]) -> None:
    several = len(found) > 1
    schemes = [
        (f"{name} · {ranking.data_set}" if several else name, accuracy)
        for ranking in found
        for name, accuracy in ranking.accuracies.items()
    ]
    places = range(len(schemes) - 1)
    rows = [f"{name}   {format_value(accuracy, '%')}" for name, accuracy in schemes[:-1]]
    axes.set_yticks(places, rows, fontsize=9)
    turned: dict[str, Any] = {"rotation": 30, "ha": "left", "rotation_mode": "anchor", "fontsize": 9}
    axes.set_xticks(places, [name for name, _ in schemes[1:]], **turned)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
