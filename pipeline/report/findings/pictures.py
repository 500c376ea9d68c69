"""Pictures of images: a grid of cells, each with its image and a few short lines under it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from pipeline.report.drawing import GREY, empty_figure, publish_figure
from pipeline.report.findings.sources import Sources

SHOWN = 24  # cells: more cannot be read on one screen
CELL_WIDTH = 1.62  # inches: CIFAR-10's names fit under an image
CELL_PADDING = 0.12  # inches between the lines of two cells
LINE_HEIGHT = 0.13  # inches
LINE_SIZE = 6.5  # points
LONGEST_CLASS = 16  # letters
GAP = 2  # pixels of white between the images of a pair
ABOUT = 0.9  # inches for title and caption


@dataclass(frozen=True, eq=False)
class Cell:
    """An image, (height, width, 3) uint8, and the lines under it."""

    image: np.ndarray
    lines: tuple[str, ...]


def answered(sources: Sources, row: pd.Series, numbers: str) -> Cell:
    """Return an image with its name, its label and what it was called, and numbers about it."""
    called = f"{shortened(row['label'])} → {shortened(row['predicted'])}"
    return Cell(sources.image(row["index"]), (row["name"], called, f"{row['split']}: {numbers}"))


def shortened(text: str, longest: int = LONGEST_CLASS) -> str:
    """Return text with its middle left out where it is too long: what tells names apart is at their end."""
    if len(text) <= longest:
        return text
    head = (longest - 1) // 3
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def beside(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return two images of one height, (height, width, 3) uint8, side by side with white between them."""
    gap = np.full((len(one), GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([one, gap, other], axis=1)


def draw_cells(cells: list[Cell], path: Path, *, title: str, caption: str) -> None:
    """Publish the first SHOWN cells as a PNG at path, in the style of all plots."""
    publish_figure(path, _grid, cells[:SHOWN], title, caption, colours=None)


def _grid(cells: list[Cell], title: str, caption: str) -> Figure:
    """Draw cells in rows: six images wide, or four pairs; images are enlarged without smoothing."""
    height, width = cells[0].image.shape[:2] if cells else (1, 1)
    columns = 4 if width > 1.5 * height else 6
    rows = max(1, -(-len(cells) // columns))
    lines = max((len(cell.lines) for cell in cells), default=1)
    cell_width = 6 * CELL_WIDTH / columns
    cell_height = min(1.0, cell_width * height / width) + lines * LINE_HEIGHT + 0.16
    size = {"width": 6 * CELL_WIDTH, "height": ABOUT + rows * cell_height}
    figure = empty_figure(caption, **size, title=title, pads=(0.07, 0.05))
    for axes, cell in itertools.zip_longest(figure.subplots(rows, columns, squeeze=False).flat, cells):
        if cell is None:
            axes.set_axis_off()
            continue
        axes.imshow(cell.image, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.grid(False)
        text = "\n".join(_fitted(line, figure, cell_width - CELL_PADDING) for line in cell.lines)
        axes.set_xlabel(text, fontsize=LINE_SIZE, labelpad=2)
    if not cells:
        figure.text(0.5, 0.5, "none found", ha="center", color=GREY)
    return figure


def _fitted(line: str, figure: Figure, room: float) -> str:
    """Return a line as it fits into so many inches, its middle left out where it must be."""
    renderer, font = cast(Any, figure.canvas).get_renderer(), FontProperties(size=LINE_SIZE)
    for longest in range(len(line), 3, -1):
        shown = shortened(line, longest)
        if renderer.get_text_width_height_descent(shown, font, ismath=False)[0] <= room * figure.dpi:
            return shown
    return shortened(line, 3)
