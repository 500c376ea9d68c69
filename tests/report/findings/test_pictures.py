"""Pictures show images unchanged, with lines that fit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from small_data import photographs

from pipeline.report.drawing import publish_figure, shorten
from pipeline.report.findings import pictures
from pipeline.report.findings.pictures import Cell, draw_cells, side_by_side

CAPTION = "synthetic (60 train / 12 val / 18 test) · weights random"


def cells(count: int, *, pairs: bool = False) -> list[Cell]:
    images = photographs(count)
    pixels = [side_by_side(image, image) if pairs else image for image in images]
    name = f"a_long_name_{'m' * 30}"
    return [Cell(image, (f"{name}_{n:03d}.png", "cat → dog")) for n, image in enumerate(pixels)]


@pytest.mark.parametrize("pairs", [False, True])
def test_a_picture_keeps_the_colors_of_images_and_the_same_cells_give_the_same_bytes(tmp_path, pairs):
    for name in ("one.png", "two.png"):
        drawn = cells(9, pairs=pairs), "Images", CAPTION
        publish_figure(tmp_path / name, draw_cells, *drawn, colors=None)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    drawn = np.asarray(Image.open(tmp_path / "one.png").convert("RGB")).reshape(-1, 3)
    colors = {tuple(color) for color in np.unique(drawn, axis=0).tolist()}
    expected = {tuple(color) for color in photographs(9).reshape(-1, 3).tolist()}
    assert expected <= colors


def test_no_line_overlaps_the_next_cell_or_leaves_the_picture():
    figure = draw_cells(cells(pictures.MAX_CELLS), "Images", CAPTION)
    figure.canvas.draw()
    boxes = [axes.xaxis.label.get_window_extent() for axes in figure.axes]
    for left, right in zip(boxes[:-1], boxes[1:], strict=True):
        assert left.x1 < right.x0 or left.y0 > right.y1
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_a_picture_without_cells_says_none_found():
    figure = draw_cells([], "Images", CAPTION)
    assert [text.get_text() for text in figure.texts if "none" in text.get_text()] == ["none found"]


def test_a_long_name_keeps_its_start_and_end():
    assert shorten("short.png", 27) == "short.png"
    assert shorten("some_very_long_name_of_an_image_000123.png", 27) == "some_ver…n_image_000123.png"
    assert len(shorten("x" * 99, 27)) == 27
    assert len(shorten("x" * 99, 3)) == 3
