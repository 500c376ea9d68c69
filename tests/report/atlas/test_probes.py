"""What is probed, how a setting is chosen, and what the tables say of it."""

from __future__ import annotations

import numpy as np
import pytest
from planted_features import CLASSES, PlantedFeatures

from pipeline.backbones.table import BACKBONES
from pipeline.errors import BadInput
from pipeline.report.atlas import probe
from pipeline.report.atlas.layer_sets import LOGISTIC, NEIGHBOURS, PROBES, layer_sets, short_name
from pipeline.report.atlas.probe import probe_layers
from pipeline.report.atlas.tables import sets_markdown
from pipeline.results.scores import wilson_interval


def test_every_block_alone_and_joins_from_the_first_and_to_the_last_are_probed_once():
    sets = layer_sets(BACKBONES["vgg16"].taps)
    alone, starts = ["1", "2", "3", "4", "5"], ["1+2", "1+2+3", "1+2+3+4", "1+2+3+4+5"]
    assert [layers.name for layers in sets] == [*alone, *starts, "2+3+4+5", "3+4+5", "4+5"]
    assert sets[6].layers == ("block1_pool", "block2_pool", "block3_pool")
    assert [layers.depth for layers in sets] == [1, 2, 3, 4, 5, 2, 3, 4, 5, 5, 5, 5]


def test_a_backbone_of_two_blocks_has_one_join():
    assert [layers.name for layers in layer_sets(("block1_pool", "block2_pool"))] == ["1", "2", "1+2"]


def test_a_long_join_is_named_by_its_ends():
    assert [short_name(name) for name in ("4", "1+2", "2+3+4+5")] == ["4", "1+2", "2–5"]


def test_a_block_with_less_noise_is_probed_more_accurately_by_either_head(second_best):
    table, _ = second_best
    for head in PROBES:
        rows = table[table["head"] == head].set_index("blocks")
        for split in ("val", "test"):
            alone = rows.loc[["2", "3", "4"], f"{split}_accuracy"]
            assert alone.is_monotonic_decreasing
            assert alone["2"] > 0.9


def test_the_setting_is_the_first_of_the_most_accurate_on_val_and_test_has_no_say(monkeypatch):
    store = PlantedFeatures((1.0, 1.0), n=60, val=20, test=20)
    labels = np.concatenate([store.labels[store.rows("val")], store.labels[store.rows("test")]])

    def answers(recipe, points, data, **_):
        """The values of each setting are right on val as often as named, and on test the other way round."""
        hits = dict.fromkeys(range(len(points)), (5, 20)) | {1: (12, 0), 2: (12, 20)}
        found = []
        for number in range(len(points)):
            wrong = np.ones(40, dtype=bool)
            wrong[: hits[number][0]] = False
            wrong[20 : 20 + hits[number][1]] = False
            said = np.where(wrong, (labels + 1) % len(CLASSES), labels)
            found.append(np.eye(len(CLASSES), dtype=np.float32)[said][None])
        return found

    monkeypatch.setattr("pipeline.heads.logistic.answers", answers)
    monkeypatch.setattr("pipeline.heads.neighbours.answers", answers)
    for found in probe_layers(store, len(CLASSES)):
        assert found.value == PROBES[found.head][1][1]
        assert (found.val.sum(), found.test.sum()) == (12, 0)


def test_accuracies_carry_wilson_intervals_and_classes_add_up_to_the_whole(second_best):
    table, classes = second_best
    row = table.iloc[0]
    interval = wilson_interval(round(row["test_accuracy"] * row["n_test"]), row["n_test"])
    assert (row["test_accuracy_low"], row["test_accuracy_high"]) == interval
    for _, row in table.iterrows():
        of_row = classes[(classes["blocks"] == row["blocks"]) & (classes["head"] == row["head"])]
        assert of_row["class"].tolist() == list(CLASSES)
        hits = (of_row["test_accuracy"] * of_row["n_test"]).sum()
        assert hits == pytest.approx(row["test_accuracy"] * row["n_test"])


def test_the_page_marks_the_best_on_val_and_tells_estimates_from_measurements(second_best):
    table, _ = second_best
    lines = sets_markdown(table).splitlines()[2:]
    assert len(lines) == table["blocks"].nunique()
    best = table[table["head"] == LOGISTIC].set_index("blocks")["val_accuracy"].idxmax()
    assert [line.split(" | ")[0] for line in lines if "**" in line.split(" | ")[2]][
        0
    ] == f"| {short_name(best)}"
    assert "about 3.9 s" in lines[0]
    assert lines[4].endswith("| 100.0 % | 30.0 s |")


def test_probing_without_val_images_is_refused():
    with pytest.raises(BadInput, match="expected val images to choose by, found none"):
        probe_layers(PlantedFeatures((1.0, 1.0), n=60, val=0, test=20), len(CLASSES))


def test_what_is_tried_of_a_head_is_in_order_and_of_its_setting():
    assert PROBES[NEIGHBOURS][1] == probe.HEADS["knn"].space["neighbours"]
    assert list(PROBES[LOGISTIC][1]) == sorted(PROBES[LOGISTIC][1])
