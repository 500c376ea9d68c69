"""The matrix of pairwise differences: a cell for each pair of schemes of a comparison."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from pipeline.formatting import format_ci, format_points, format_value
from pipeline.report.drawing import BLACK, CENTERED, contrasting_color, new_figure, write_placeholder
from pipeline.results.comparison import Comparison
from pipeline.results.verdicts import Ranking, ranking_of

CELL_WIDTH, CELL_HEIGHT = 1.0, 0.56  # inches: room for two lines of numbers
NAMES_WIDTH, NAMES_HEIGHT = 4.2, 3.2  # inches for names, title, legend and caption around the cells
MIN_COLUMNS = 3  # the width that the legend needs; surplus columns stay empty
LEGEND_TITLE = "Cells: lead of the row over the column in points (95 % paired-bootstrap CI)"
PALE = "#f2f2f2"
NOT_SIGNIFICANT: dict[str, Any] = {"facecolor": PALE, "edgecolor": "#c8c8c8", "hatch": "////", "linewidth": 0}
BLANK = {"facecolor": PALE, "linewidth": 0, "pad": 1.2}  # keeps the hatching off the numbers
MIN_SCALE = 1.0  # points at full color, at least: keeps small differences from looking large


def differences(comparison: Comparison) -> Figure:
    """Draw the lead of each scheme over each less accurate one in points, hatched if not significant.

    Schemes are sorted by accuracy; the first has no column, the last no row.
    """
    ranking = ranking_of(comparison.differences)
    count = len(ranking.accuracies) - 1 if ranking else 1
    columns = max(count, MIN_COLUMNS)
    size = {"width": NAMES_WIDTH + CELL_WIDTH * columns, "height": NAMES_HEIGHT + CELL_HEIGHT * count}
    figure, axes = new_figure(comparison.caption, **size)
    axes.set_title("Pairwise differences in test accuracy")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if ranking is None:
        write_placeholder(axes, "no two schemes were tested on the same images")
        return figure
    _draw_cells(axes, ranking)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(count - 0.5, -0.5))
    names = list(ranking.accuracies)
    rows = [f"{name}   {format_value(ranking.accuracies[name], '%')}" for name in names[:-1]]
    axes.set_yticks(range(count), rows, fontsize=9)
    rotated: dict[str, Any] = {"rotation": 30, "ha": "left", "rotation_mode": "anchor", "fontsize": 9}
    axes.set_xticks(range(count), names[1:], **rotated)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    return figure


def _draw_cells(axes: Axes, ranking: Ranking) -> None:
    largest = max(100 * verdict.difference for verdict in ranking.verdicts.values())
    scale = ScalarMappable(Normalize(0, max(largest, MIN_SCALE)), "Blues")
    rank = list(ranking.accuracies).index
    for (better, worse), verdict in ranking.verdicts.items():
        row, column = rank(better), rank(worse) - 1
        cell, style, weight = NOT_SIGNIFICANT, {"color": BLACK, "bbox": BLANK, **CENTERED}, "normal"
        if verdict.real:
            color = scale.to_rgba(np.array(100 * verdict.difference))
            cell = {"facecolor": color, "linewidth": 0}
            style, weight = {"color": contrasting_color(color), **CENTERED}, "bold"
        lead, interval = format_points(verdict.difference), format_ci(verdict.low, verdict.high)
        axes.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, **cell))
        axes.text(column, row - 0.15, lead, fontsize=10, fontweight=weight, **style)
        axes.text(column, row + 0.23, interval, fontsize=7, **style)
    significant = Patch(facecolor=scale.cmap(0.6), label="significant (darker: larger difference)")
    not_significant = Patch(**NOT_SIGNIFICANT, label="not significant after Holm's correction")
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.01), "borderaxespad": 0}
    text: dict[str, Any] = {"title": textwrap.fill(LEGEND_TITLE, 52), "fontsize": 9, "title_fontsize": 9}
    axes.legend(handles=[significant, not_significant], alignment="left", **place, **text)
