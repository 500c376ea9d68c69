"""Planted label errors are found, and little else."""

from __future__ import annotations

import numpy as np
import pytest
from small_data import CLASSES, TRAIN, photographs

from pipeline.report.findings import labels
from pipeline.report.findings.labels import likely_label_errors


def planted(*, images: int = 5000, classes: int = 10, errors: int = 250, skill: float = 4.0, seed: int = 0):
    """Return the answers of a model that knows the true classes, labels, and which of them are wrong."""
    random = np.random.default_rng(seed)
    true = random.integers(0, classes, images)
    wrong = np.zeros(images, dtype=bool)
    wrong[random.choice(images, errors, replace=False)] = True
    given = np.where(wrong, (true + random.integers(1, classes, images)) % classes, true)
    odds = random.normal(size=(images, classes))
    odds[np.arange(images), true] += skill
    odds = np.exp(odds)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), given, wrong


def test_of_planted_label_errors_most_are_found_and_most_that_is_found_is_planted():
    probabilities, given, wrong = planted()
    found = likely_label_errors(probabilities, given)
    assert wrong[found].mean() > 0.85  # precision
    assert wrong[found].sum() / wrong.sum() > 0.75  # recall
    assert wrong[found[: len(found) // 2]].all()  # the surest come first


def test_a_better_model_finds_more_of_them_with_fewer_false_alarms():
    shares = []
    for skill in (2.0, 4.0, 8.0):
        probabilities, given, wrong = planted(skill=skill)
        shares.append(wrong[likely_label_errors(probabilities, given)].mean())
    assert shares == sorted(shares)
    assert shares[-1] > 0.97


def test_right_labels_and_sure_answers_give_no_suspect():
    probabilities, given, wrong = planted(errors=0, skill=30.0)
    assert len(likely_label_errors(probabilities, given)) == 0


@pytest.mark.filterwarnings("error")
def test_a_class_without_images_and_a_handful_of_images_are_no_obstacle():
    probabilities, given, _ = planted(images=12, errors=2, classes=3)
    given[given == 2] = 1
    found = likely_label_errors(probabilities, given)
    assert (probabilities.argmax(axis=1)[found] != given[found]).all()


def swapped_answers(others: int, swapped: int) -> np.ndarray:
    """Return probabilities of images whose classes come in turn; of the one at swapped, another class's."""
    labels_of = (TRAIN + np.arange(others)) % len(CLASSES)
    probabilities = np.full((others, len(CLASSES)), 0.02)
    probabilities[np.arange(others), labels_of] = 0.96
    probabilities[swapped] = np.roll(probabilities[swapped], 1)
    return probabilities


def test_the_table_names_image_label_and_answer(make_sources):
    sources = make_sources(photographs(90), swapped_answers(30, swapped=20))
    table = labels.find(sources)
    row = table.iloc[0]
    assert len(table) == 1
    assert tuple(row[["rank", "split", "index", "label", "predicted"]]) == (1, "test", 800, "ship", "cat")
    assert row["name"] == "a_rather_long_name_of_a_photograph_0080.png"
    assert (row["p_label"], row["p_predicted"]) == pytest.approx((0.02, 0.96))
    assert labels.summary(sources, table).startswith("1 of 30 images are suspects (1 in test), out of 1")


def test_a_run_without_val_images_is_searched_on_test_alone(make_sources):
    sources = make_sources(photographs(90), swapped_answers(30, swapped=3), val=0)
    assert labels.find(sources)["split"].tolist() == ["test"]
