"""Names beside the points of a plot, placed so that they cover neither points, bars, lines nor each other."""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from pipeline.runs.result import label_of

GREY = "#5a5a5a"
# Where a point's label may stand: the nearest place that covers least wins, right of the point first.
LABEL_DISTANCES = (9, 14, 24, 38)  # points
LABEL_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7))
LEADER: dict[str, Any] = {
    "textcoords": "offset points",
    "arrowprops": {"arrowstyle": "-", "color": GREY, "linewidth": 0.6},
}

# How a text is aligned that stands beside its point, by the sign of the direction.
HORIZONTAL: dict[int, Literal["left", "center", "right"]] = {-1: "right", 0: "center", 1: "left"}
VERTICAL: dict[int, Literal["bottom", "center", "top"]] = {-1: "top", 0: "center", 1: "bottom"}


def place_labels(axes: Axes, table: pd.DataFrame, *, line: tuple[list[float], list[float]]) -> None:
    """Name each scheme where the name covers least of points, bars, front and names before it.

    A scheme with several seeds is named once, at its most accurate point.
    """
    cast("Figure", axes.figure).draw_without_rendering()  # fixes the layout: places are compared in pixels
    to_pixels = axes.transData.transform
    taken = _line_boxes(to_pixels(list(zip(*line, strict=True))))
    for _, row in table.iterrows():
        x, low = to_pixels((row["seconds"], 100 * row["accuracy_low"]))
        high = to_pixels((row["seconds"], 100 * row["accuracy_high"]))[1]
        y = to_pixels((row["seconds"], 100 * row["accuracy"]))[1]
        taken += [Bbox([[x - 7, y - 7], [x + 7, y + 7]]), Bbox([[x - 5, low - 2], [x + 5, high + 2]])]
    scheme = ["scheme", "weights"]
    seeds = table.groupby(scheme)["seed"].transform("size")
    named = table.assign(seeds=seeds).sort_values("accuracy", ascending=False, kind="stable")
    for _, row in named.drop_duplicates(scheme).iterrows():
        text = label_of(row["scheme"], row["weights"])
        text = f"{text} ({row['seeds']} seeds)" if row["seeds"] > 1 else text
        taken.append(_label_point(axes, (row["seconds"], 100 * row["accuracy"]), text=text, taken=taken))


def _label_point(axes: Axes, point: tuple[float, float], *, text: str, taken: list[Bbox]) -> Bbox:
    """Write text in the freest of the places around point and return the box it fills, in pixels."""
    renderer = cast(Any, axes.figure.canvas).get_renderer()
    note = axes.annotate(text, point, (0, 0), textcoords="offset points", fontsize=8.5, annotation_clip=False)
    note.set_in_layout(False)
    places: list[tuple[float, int, int, float, float, Bbox]] = []
    for distance in LABEL_DISTANCES:
        for across, up in LABEL_DIRECTIONS:
            _move(note, across * distance, up * distance)
            note.update_positions(renderer)
            box = Text.get_window_extent(note, renderer)
            outside = box.width * box.height - _shared(box, axes.bbox)
            covered = sum(_shared(box, other) for other in taken)
            places.append((covered + outside, distance, len(places), across, up, box))
    _, distance, _, across, up, box = min(places, key=lambda place: place[:3])
    _move(note, across * distance, up * distance)
    if distance > LABEL_DISTANCES[1]:
        axes.annotate("", point, (across * distance, up * distance), **LEADER)
    return box


def _move(note: Text, across: float, up: float) -> None:
    note.set_position((across, up))
    note.set_horizontalalignment(HORIZONTAL[(across > 0) - (across < 0)])
    note.set_verticalalignment(VERTICAL[(up > 0) - (up < 0)])


def _shared(one: Bbox, other: Bbox) -> float:
    """Return the area that two boxes share, in square pixels."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)


def _line_boxes(corners: np.ndarray) -> list[Bbox]:
    """Return thin boxes along a step line through corners, (K, 2) pixels, that steps at each next x."""
    boxes = []
    for (x, y), (next_x, next_y) in zip(corners[:-1], corners[1:], strict=True):
        boxes.append(Bbox([[x, y - 2], [next_x, y + 2]]))
        boxes.append(Bbox([[next_x - 2, min(y, next_y)], [next_x + 2, max(y, next_y)]]))
    return boxes
