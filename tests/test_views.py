"""Views are flips and shifts of an image, and each has one canonical name."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import BadInput
from pipeline.features.passes import apply_view
from pipeline.views import parse_views

IMAGES = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)


def test_identity_returns_the_images():
    assert (apply_view(IMAGES, "identity") == IMAGES).all()


def test_hflip_reverses_the_columns():
    assert (apply_view(IMAGES, "hflip") == IMAGES[:, :, ::-1]).all()


@pytest.mark.parametrize(
    ("view", "inner", "edge", "source"),
    [
        ("right2", np.s_[:, :, 2:], np.s_[:, :, 1], np.s_[:, :, 1]),
        ("left2", np.s_[:, :, :-2], np.s_[:, :, -2], np.s_[:, :, -2]),
        ("down3", np.s_[:, 3:], np.s_[:, 2], np.s_[:, 1]),
        ("up3", np.s_[:, :-3], np.s_[:, -3], np.s_[:, -2]),
    ],
)
def test_shifted_view_reflects_the_edge(view, inner, edge, source):
    shifted, opposite = apply_view(IMAGES, view), {"right2": np.s_[:, :, :-2], "left2": np.s_[:, :, 2:]}
    opposite |= {"down3": np.s_[:, :-3], "up3": np.s_[:, 3:]}
    assert (shifted[inner] == IMAGES[opposite[view]]).all()
    assert (shifted[edge] == IMAGES[source]).all()


def test_parts_of_a_view_are_applied_together():
    both = apply_view(apply_view(IMAGES, "hflip"), "right1")
    assert (apply_view(IMAGES, "hflip+right1") == both).all()
    assert (apply_view(IMAGES, "right1+down2") == apply_view(apply_view(IMAGES, "right1"), "down2")).all()


@pytest.mark.parametrize("view", ["identity", "hflip", "left8", "hflip+right1+down2"])
def test_view_keeps_shape_and_type_and_does_not_change_its_input(view):
    original = IMAGES.copy()
    shifted = apply_view(IMAGES, view)
    assert (shifted.shape, shifted.dtype, shifted.flags.c_contiguous) == (IMAGES.shape, np.uint8, True)
    assert (original == IMAGES).all()


def test_parsed_views_are_canonical_and_unique():
    text = "identity, hflip,down2+hflip, hflip+down2,hflip"
    assert parse_views(text) == ("identity", "hflip", "hflip+down2")


@pytest.mark.parametrize(
    "text", ["vflip", "left9", "left0", "left", "hflip+hflip", "left1+right1", "identity+hflip"]
)
def test_unknown_view_is_an_error_that_lists_valid_views(text):
    with pytest.raises(BadInput, match="expected identity, or hflip, left1 … left8, and right, up or down"):
        parse_views(text)


def test_empty_list_of_views_is_an_error():
    with pytest.raises(BadInput, match="expected at least one"):
        parse_views(" , ")
