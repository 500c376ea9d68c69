"""The plots of an atlas show the values of its tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.report.atlas.layer_sets import KNN, LOGISTIC
from pipeline.report.atlas.pictures import draw_classes, draw_depth
from pipeline.report.drawing import publish_figure


def test_plots_are_not_blank_and_the_same_tables_give_the_same_bytes(second_best, tmp_path):
    table, classes = second_best
    for name in ("one", "two"):
        publish_figure(tmp_path / f"{name}-depth.png", draw_depth, table, 2, "a caption")
        publish_figure(tmp_path / f"{name}-classes.png", draw_classes, classes, "a caption")
    for picture in ("depth", "classes"):
        pixels = np.asarray(Image.open(tmp_path / f"one-{picture}.png").convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
        one, two = (tmp_path / f"{name}-{picture}.png" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_test_accuracy_is_drawn_for_both_heads_by_depth_and_for_concatenated_blocks(second_best):
    table, _ = second_best
    figure = draw_depth(table, 2, "a caption")
    single, concatenated, cost, _ = figure.axes
    for head, line in zip((LOGISTIC, KNN), drawn(single), strict=True):
        rows = table[(table["head"] == head) & ~table["blocks"].str.contains("+", regex=False)]
        assert line == pytest.approx((100 * rows["test_accuracy"]).tolist())
    assert [len(line) for line in drawn(concatenated)] == [7, 7]
    assert [bar.get_height() for bar in cost.patches] == pytest.approx([13, 31, 61, 91, 100])
    assert [text.get_text() for text in cost.texts][3:] == ["≈ 27.3 s", "30.0 s"]


def test_the_cut_is_marked_between_frozen_and_trainable_blocks(second_best):
    axes = draw_depth(second_best[0], 3, "a caption").axes[0]
    assert [2.5, 2.5] in [[float(x) for x in line.get_xdata()] for line in axes.lines]


def test_each_class_has_a_row_and_a_frame_around_its_best_single_block(second_best):
    _, classes = second_best
    axes = draw_classes(classes, "a caption").axes[0]
    grid = axes.images[0].get_array()
    assert grid.shape == (3, 12)
    frames = [round(frame.get_x() + 0.46) for frame in axes.patches]
    assert frames == np.asarray(grid)[:, :5].argmax(axis=1).tolist()
    assert len(axes.texts) == grid.size


def test_a_hundred_classes_are_drawn_without_numbers_and_with_fewer_names(second_best):
    _, classes = second_best
    ant = classes[classes["class"] == "ant"]
    many = pd.concat([ant.assign(**{"class": f"class {number}"}) for number in range(100)])
    axes = draw_classes(many, "a caption").axes[0]
    assert not axes.texts
    assert len(axes.get_yticks()) <= 40


def drawn(axes) -> list[list[float]]:
    """Return the heights of the points of each curve with error bars."""
    return [container.lines[0].get_ydata().tolist() for container in axes.containers]
