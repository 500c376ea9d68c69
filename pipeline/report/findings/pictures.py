"""Image grids: cells with an image and a few short lines of text below."""

import itertools
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from pipeline.report.drawing import GRAY, empty_figure, shorten
from pipeline.report.findings.sources import FindingSources

MAX_CELLS = 24  # more do not fit on one screen
CELL_WIDTH = 1.62  # inches: CIFAR-10's names fit below an image
CELL_PADDING = 0.12  # inches between the lines of two cells
LINE_HEIGHT = 0.13  # inches
LINE_SIZE = 6.5  # points
MAX_CLASS_LENGTH = 16  # characters
GAP = 2  # pixels of white between the images of a pair
TITLE_AND_CAPTION = 0.9  # inches


@dataclass(frozen=True, eq=False)
class Cell:
    """An image, (height, width, 3) uint8, and the lines below it."""

    image: np.ndarray
    lines: tuple[str, ...]


def prediction_cell(sources: FindingSources, row: pd.Series) -> Cell:
    """Return a cell with an image, its name, its label and prediction, and the probabilities of both."""
    classes = f"{shorten(row['label'], MAX_CLASS_LENGTH)} → {shorten(row['predicted'], MAX_CLASS_LENGTH)}"
    numbers = f"{row['split']}: p {row['p_label']:.3f} → {row['p_predicted']:.3f}"
    return Cell(sources.image(row["index"]), (row["name"], classes, numbers))


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return two images of the same height, (height, width, 3) uint8, with white between them."""
    gap = np.full((len(left), GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def draw_cells(cells: list[Cell], title: str, caption: str) -> Figure:
    """Draw cells in rows of six images or four pairs; images are enlarged without smoothing."""
    height, width = cells[0].image.shape[:2] if cells else (1, 1)
    columns = 4 if width > 1.5 * height else 6
    rows = max(1, -(-len(cells) // columns))
    lines = max((len(cell.lines) for cell in cells), default=1)
    cell_width = 6 * CELL_WIDTH / columns
    cell_height = min(1.0, cell_width * height / width) + lines * LINE_HEIGHT + 0.16
    size = {"width": 6 * CELL_WIDTH, "height": TITLE_AND_CAPTION + rows * cell_height}
    figure = empty_figure(caption, **size, title=title, pads=(0.07, 0.05))
    for axes, cell in itertools.zip_longest(figure.subplots(rows, columns, squeeze=False).flat, cells):
        if cell is None:
            axes.set_axis_off()
            continue
        axes.imshow(cell.image, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.grid(False)
        text = "\n".join(_fit_line(line, figure, cell_width - CELL_PADDING) for line in cell.lines)
        axes.set_xlabel(text, fontsize=LINE_SIZE, labelpad=2)
    if not cells:
        figure.text(0.5, 0.5, "none found", ha="center", color=GRAY)
    return figure


def _fit_line(line: str, figure: Figure, width: float) -> str:
    """Return a line shortened to fit into width, in inches."""
    renderer, font = cast(Any, figure.canvas).get_renderer(), FontProperties(size=LINE_SIZE)
    for length in range(len(line), 3, -1):
        text = shorten(line, length)
        if renderer.get_text_width_height_descent(text, font, ismath=False)[0] <= width * figure.dpi:
            return text
    return shorten(line, 3)
