"""Which sections of a cache exist, which are missing, and what its key depends on."""

from __future__ import annotations

import pytest
from caches import LAYERS, base_of, section_of

from pipeline.backbones.engines import ENGINES
from pipeline.backbones.table import choose_weights
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.errors import BadInput
from pipeline.features import sections
from pipeline.features.passes import images_within_memory
from pipeline.features.sections import missing_sections, parse_layers, why_missing
from pipeline.storage.fingerprint import differences, key_of


@pytest.mark.parametrize(
    ("count", "shard_bytes", "expected"),
    [
        (25, 10**9, [(0, 25)]),
        (25, 2 * 10 * 192 * 4, [(0, 20), (20, 25)]),
        (20, 1, [(0, 10), (10, 20)]),
        (1, 1, [(0, 1)]),
    ],
)
def test_shards_hold_complete_passes_and_each_image_once(monkeypatch, tmp_path, count, shard_bytes, expected):
    monkeypatch.setattr(sections, "SHARD_BYTES", shard_bytes)
    monkeypatch.setattr(sections, "shard_step", lambda base: 10)
    assert section_of(tmp_path).spans(count) == expected


@pytest.mark.parametrize(
    ("engine", "precision", "size", "images"),
    [
        *(("tensorflow", "bfloat16", *p) for p in ((32, 128), (64, 32), (96, 16), (128, 16), (224, 5))),
        *(("tensorflow", "float32", *p) for p in ((32, 128), (128, 8), (224, 2))),
        *(("openvino", "bfloat16", *p) for p in ((32, 64), (128, 4), (224, 1))),
    ],
)
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_shards_of_maps_hold_complete_passes_of_fewer_images_if_they_are_larger(
    tmp_path, engine, precision, size, images, storage
):
    assert ENGINES[engine].images_in_pass(size, precision) == images
    assert images_within_memory(ENGINES[engine], size, precision, passes=2) == images
    options = {"input_size": size, "storage": storage, "engine": engine, "precision": precision}
    maps = section_of(tmp_path, pooling="none", **options)
    assert {(stop - start) % images for start, stop in maps.spans(images * 100)} == {0}


def test_shapes_depend_on_pooling_and_input_size(tmp_path):
    layers = ["block1_pool", "block5_pool"]
    averaged, maps = (
        section_of(tmp_path, layers=layers),
        section_of(tmp_path, layers=layers, pooling="none", input_size=224, storage="float16"),
    )
    assert averaged.shapes() == {"block1_pool": (64,), "block5_pool": (512,)}
    assert averaged.row_bytes == 4 * (64 + 512)
    assert maps.shapes() == {"block1_pool": (112, 112, 64), "block5_pool": (7, 7, 512)}
    assert maps.row_bytes == 2 * (112 * 112 * 64 + 7 * 7 * 512)


def request_of(layers, *views) -> dict:
    """Return the fingerprint of layers of views, by default identity."""
    return {**base_of(), "layers": list(layers), "views": list(views or ("identity",))}


def test_only_missing_layers_of_each_view_are_computed(cached):
    three = ("block1_pool", "block2_pool", "block3_pool")
    missing = missing_sections(cached, request_of(three, "identity", "hflip"))
    assert [(section.view, section.layers) for section in missing] == [
        ("identity", ("block3_pool",)),
        ("hflip", three),
    ]
    assert missing_sections(cached, request_of(LAYERS[:1])) == []
    assert why_missing(cached, request_of(LAYERS)) is None
    reason = why_missing(cached, request_of(three))
    assert reason.endswith("block3_pool of view identity not cached")


def test_section_that_lost_a_shard_is_missing_and_names_the_shard(copied):
    section = section_of(copied)
    section.shard(3).unlink()
    assert missing_sections(copied, request_of(LAYERS[:1])) == [section]
    assert "shard-00003.h5: expected" in why_missing(copied, request_of(LAYERS))


def test_interrupted_section_reports_its_finished_shards(copied):
    (section_of(copied).folder / "manifest.json").unlink()
    assert why_missing(copied, request_of(LAYERS)).endswith(" (10 shards are finished)")


def test_fault_16_section_copied_to_another_folder_is_ignored(copied):
    (copied / "identity-0123456789ab").mkdir()
    copy = copied / "identity-0123456789ab" / "manifest.json"
    copy.write_bytes((section_of(copied).folder / "manifest.json").read_bytes())
    assert sections.published_sections(copied) == [section_of(copied)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", tuple(f"block{block}_pool" for block in range(1, 6))),
        ("block5_pool, block3_pool", ("block3_pool", "block5_pool")),
        ("block3_pool,block3_pool,", ("block3_pool",)),
    ],
)
def test_parsed_layers_are_in_network_order_and_unique(text, expected):
    assert parse_layers(text, "vgg16") == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [("block6_pool", "'block6_pool'"), ("block1_pool,ALL", "'ALL'"), (" , ", "'none'"), ("", "'none'")],
)
def test_unknown_layers_are_an_error_that_lists_the_taps(text, named):
    with pytest.raises(BadInput, match=f"expected names among block1_pool, .* or all; received {named}"):
        parse_layers(text, "vgg16")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooling": "max"}, "pooling 'max': expected one of average, none"),
        ({"storage": "int8"}, "storage 'int8': expected one of float32, float16"),
        ({"input_size": 31}, "input size: expected 32 to 224 pixels, received 31"),
        ({"input_size": 225}, "input size: expected 32 to 224 pixels, received 225"),
    ],
)
def test_invalid_settings_are_an_error_that_lists_valid_ones(changes, message):
    with pytest.raises(BadInput, match=message):
        base_of(**changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"weights": choose_weights("random:1", "vgg16")},
            "weights: he_normal:0, expected he_normal:1",
        ),
        ({"weights": choose_weights("imagenet", "vgg16")}, "weights: "),
        ({"precision": "bfloat16"}, "precision: float32, expected bfloat16"),
        ({"pooling": "none"}, "pooling: average, expected none"),
        ({"storage": "float16"}, "storage: float32, expected float16"),
        ({"input_size": 64}, "input_size: 32, expected 64"),
        (
            {"dataset": dataset_fingerprint("digits", subset=0, split_seed=0)},
            "dataset.subset: 100, expected 0",
        ),
        (
            {"dataset": dataset_fingerprint("digits", subset=100, split_seed=1)},
            "dataset.split.seed: 0, expected 1",
        ),
        ({"dataset": dataset_fingerprint("cifar10", subset=100, split_seed=0)}, "dataset.name: "),
    ],
)
def test_fault_16_every_setting_that_changes_the_features_changes_the_key_and_is_reported(changes, named):
    assert key_of(base_of()) != key_of(base_of(**changes))
    assert any(text.startswith(named) for text in differences(base_of(), base_of(**changes)))
