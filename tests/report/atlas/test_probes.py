"""Layer sets, the choice of settings, and the tables of an atlas."""

from __future__ import annotations

import numpy as np
import pytest
from planted_features import CLASSES, PlantedFeatures

from pipeline.backbones.table import BACKBONES
from pipeline.errors import BadInput
from pipeline.report.atlas import probe
from pipeline.report.atlas.layer_sets import KNN, LOGISTIC, PROBES, layer_sets, short_name
from pipeline.report.atlas.probe import probe_layers
from pipeline.report.atlas.tables import sets_markdown
from pipeline.results.scores import wilson_interval


def test_layer_sets_are_single_blocks_first_blocks_and_last_blocks_each_once():
    sets = layer_sets(BACKBONES["vgg16"].taps)
    singles, starts = ["1", "2", "3", "4", "5"], ["1+2", "1+2+3", "1+2+3+4", "1+2+3+4+5"]
    assert [layers.name for layers in sets] == [*singles, *starts, "2+3+4+5", "3+4+5", "4+5"]
    assert sets[6].layers == ("block1_pool", "block2_pool", "block3_pool")
    assert [layers.depth for layers in sets] == [1, 2, 3, 4, 5, 2, 3, 4, 5, 5, 5, 5]


def test_a_backbone_of_two_blocks_has_one_concatenation():
    assert [layers.name for layers in layer_sets(("block1_pool", "block2_pool"))] == ["1", "2", "1+2"]


def test_a_long_concatenation_is_named_by_its_ends():
    assert [short_name(name) for name in ("4", "1+2", "2+3+4+5")] == ["4", "1+2", "2–5"]


def test_both_heads_are_more_accurate_on_blocks_with_less_noise(second_best):
    table, _ = second_best
    for head in PROBES:
        rows = table[table["head"] == head].set_index("blocks")
        for split in ("val", "test"):
            accuracies = rows.loc[["2", "3", "4"], f"{split}_accuracy"]
            assert accuracies.is_monotonic_decreasing
            assert accuracies["2"] > 0.9


def test_the_setting_is_the_first_of_the_best_on_val_and_test_does_not_matter(monkeypatch):
    store = PlantedFeatures((1.0, 1.0), n=60, val=20, test=20)
    labels = np.concatenate([store.labels[store.rows("val")], store.labels[store.rows("test")]])

    def predict_logits(recipe, points, data, **_):
        """Return outputs that are correct on as many (val, test) images as hits says."""
        hits = dict.fromkeys(range(len(points)), (5, 20)) | {1: (12, 0), 2: (12, 20)}
        outputs = []
        for number in range(len(points)):
            wrong = np.ones(40, dtype=bool)
            wrong[: hits[number][0]] = False
            wrong[20 : 20 + hits[number][1]] = False
            predicted = np.where(wrong, (labels + 1) % len(CLASSES), labels)
            outputs.append(np.eye(len(CLASSES), dtype=np.float32)[predicted][None])
        return outputs

    monkeypatch.setattr("pipeline.heads.logistic.predict_logits", predict_logits)
    monkeypatch.setattr("pipeline.heads.neighbours.predict_logits", predict_logits)
    for chosen in probe_layers(store, len(CLASSES)):
        assert chosen.value == PROBES[chosen.head][1][1]
        assert (chosen.val.sum(), chosen.test.sum()) == (12, 0)


def test_accuracies_have_wilson_intervals_and_classes_add_up_to_the_total(second_best):
    table, classes = second_best
    row = table.iloc[0]
    interval = wilson_interval(round(row["test_accuracy"] * row["n_test"]), row["n_test"])
    assert (row["test_accuracy_low"], row["test_accuracy_high"]) == interval
    for _, row in table.iterrows():
        class_rows = classes[(classes["blocks"] == row["blocks"]) & (classes["head"] == row["head"])]
        assert class_rows["class"].tolist() == list(CLASSES)
        hits = (class_rows["test_accuracy"] * class_rows["n_test"]).sum()
        assert hits == pytest.approx(row["test_accuracy"] * row["n_test"])


def test_the_page_marks_the_best_on_val_and_distinguishes_estimates_from_measurements(second_best):
    table, _ = second_best
    lines = sets_markdown(table).splitlines()[2:]
    assert len(lines) == table["blocks"].nunique()
    best = table[table["head"] == LOGISTIC].set_index("blocks")["val_accuracy"].idxmax()
    assert [line.split(" | ")[0] for line in lines if "**" in line.split(" | ")[2]][
        0
    ] == f"| {short_name(best)}"
    assert "about 3.9 s" in lines[0]
    assert lines[4].endswith("| 100.0 % | 30.0 s |")


def test_probing_without_val_images_raises_an_error():
    with pytest.raises(BadInput, match="expected val images to choose settings, got none"):
        probe_layers(PlantedFeatures((1.0, 1.0), n=60, val=0, test=20), len(CLASSES))


def test_the_values_of_a_setting_are_those_of_the_head_in_ascending_order():
    assert PROBES[KNN][1] == probe.HEADS["knn"].space["neighbours"]
    assert list(PROBES[LOGISTIC][1]) == sorted(PROBES[LOGISTIC][1])
