"""Views show the same picture in other ways, and every way has one name."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import BadInput
from pipeline.features.passes import show
from pipeline.views import parse_views

PICTURES = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)


def test_identity_shows_the_images_themselves():
    assert (show(PICTURES, "identity") == PICTURES).all()


def test_a_mirrored_view_has_its_columns_in_reverse():
    assert (show(PICTURES, "hflip") == PICTURES[:, :, ::-1]).all()


@pytest.mark.parametrize(
    ("view", "inner", "edge", "source"),
    [
        ("right2", np.s_[:, :, 2:], np.s_[:, :, 1], np.s_[:, :, 1]),
        ("left2", np.s_[:, :, :-2], np.s_[:, :, -2], np.s_[:, :, -2]),
        ("down3", np.s_[:, 3:], np.s_[:, 2], np.s_[:, 1]),
        ("up3", np.s_[:, :-3], np.s_[:, -3], np.s_[:, -2]),
    ],
)
def test_a_shifted_view_moves_the_picture_and_reflects_its_edge(view, inner, edge, source):
    shown, opposite = show(PICTURES, view), {"right2": np.s_[:, :, :-2], "left2": np.s_[:, :, 2:]}
    opposite |= {"down3": np.s_[:, :-3], "up3": np.s_[:, 3:]}
    assert (shown[inner] == PICTURES[opposite[view]]).all()
    assert (shown[edge] == PICTURES[source]).all()


def test_parts_of_a_view_add_up():
    both = show(show(PICTURES, "hflip"), "right1")
    assert (show(PICTURES, "hflip+right1") == both).all()
    assert (show(PICTURES, "right1+down2") == show(show(PICTURES, "right1"), "down2")).all()


@pytest.mark.parametrize("view", ["identity", "hflip", "left8", "hflip+right1+down2"])
def test_a_view_keeps_shape_and_type_and_leaves_the_images_alone(view):
    before = PICTURES.copy()
    shown = show(PICTURES, view)
    assert (shown.shape, shown.dtype, shown.flags.c_contiguous) == (PICTURES.shape, np.uint8, True)
    assert (before == PICTURES).all()


def test_views_are_named_in_one_way_and_once():
    text = "identity, hflip,down2+hflip, hflip+down2,hflip"
    assert parse_views(text) == ("identity", "hflip", "hflip+down2")


@pytest.mark.parametrize(
    "text", ["vflip", "left9", "left0", "left", "hflip+hflip", "left1+right1", "identity+hflip"]
)
def test_a_view_that_does_not_exist_is_refused_with_those_that_do(text):
    with pytest.raises(BadInput, match="expected identity, or hflip, left1 … left8, right, up or down"):
        parse_views(text)


def test_no_view_at_all_is_refused():
    with pytest.raises(BadInput, match="expected at least one"):
        parse_views(" , ")
