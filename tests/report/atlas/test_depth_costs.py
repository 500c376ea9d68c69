"""The cost of extraction up to a block: exact multiply-adds, measured or estimated seconds."""

from __future__ import annotations

import pytest

from pipeline.backbones.table import choose_weights
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.errors import DamagedFile
from pipeline.features.sections import Section, cache_fingerprint, multiply_adds
from pipeline.report.atlas.tables import costs_by_depth
from pipeline.storage.layout import COSTS
from pipeline.storage.publishing import publish_json, publish_manifest

TAPS = tuple(f"block{number}_pool" for number in range(1, 6))
ALL_BLOCKS = 313_196_544  # multiply-adds of VGG16's convolutions for an image of 32 x 32 pixels


@pytest.fixture
def finish(tmp_path):
    """Return a function that writes a finished section: 10 s of startup, then 100 images per second."""
    base = cache_fingerprint(
        dataset_fingerprint("digits", subset=100, split_seed=0),
        backbone="vgg16",
        weights=choose_weights("random", "vgg16"),
        precision="float32",
    )

    def make(layers: tuple[str, ...], *, images: int = 10_000, view: str = "identity"):
        section = Section(tmp_path, base, view, layers)
        costs = {"seconds": 10 + images / 100, "images": images, "images_per_second": 100.0}
        publish_json(section.folder / COSTS, costs)
        publish_manifest(section.folder, section.fingerprint, [COSTS])
        return tmp_path

    return make


def test_vgg16_takes_313_million_multiply_adds_at_32_pixels_split_into_these_shares(finish):
    costs = costs_by_depth(finish(TAPS))
    assert costs[-1].multiply_adds == ALL_BLOCKS
    shares = [cost.share for cost in costs]
    steps = [100 * (after - before) for before, after in zip([0, *shares], shares, strict=False)]
    assert [round(step, 1) for step in steps] == [12.6, 18.1, 30.1, 30.1, 9.0]
    assert multiply_adds({"backbone": "vgg16", "input_size": 64}, TAPS) == 4 * ALL_BLOCKS


def test_seconds_without_a_measurement_are_estimated_in_proportion_to_multiply_adds(finish):
    costs = costs_by_depth(finish(TAPS))
    assert [cost.measured for cost in costs] == [False, False, False, False, True]
    assert costs[-1].seconds == 110
    for cost in costs:
        assert cost.seconds == pytest.approx(10 + 100 * cost.share, abs=1e-3)


def test_an_extraction_that_stopped_at_a_block_is_measured_and_gives_estimates_before_it(finish):
    finish(TAPS[3:])
    finish(TAPS[:3], images=5_000)
    costs = costs_by_depth(finish(TAPS[:1], view="hflip"))
    assert [cost.measured for cost in costs] == [False, False, True, False, True]
    assert costs[2].seconds == 60
    assert costs[1].seconds == pytest.approx(10 + 50 * costs[1].share / costs[2].share, abs=1e-3)
    assert costs[3].seconds == pytest.approx(10 + 100 * costs[3].share, abs=1e-3)


def test_a_cache_that_does_not_reach_the_last_block_raises_an_error(finish):
    with pytest.raises(DamagedFile, match="no finished features reach block4_pool; extract all layers"):
        costs_by_depth(finish(TAPS[:3]))


def test_an_empty_cache_raises_an_error(tmp_path):
    with pytest.raises(DamagedFile, match="no finished features of the identity view"):
        costs_by_depth(tmp_path)
