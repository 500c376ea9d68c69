"""Planted label errors are found, with few false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from small_data import CLASSES, TRAIN, photographs

from pipeline.report.findings import label_errors
from pipeline.report.findings.label_errors import likely_label_errors


def planted(*, images: int = 5000, classes: int = 10, errors: int = 250, skill: float = 4.0, seed: int = 0):
    """Return probabilities from a model of the true classes, labels, and which of the labels are wrong."""
    random = np.random.default_rng(seed)
    true = random.integers(0, classes, images)
    wrong = np.zeros(images, dtype=bool)
    wrong[random.choice(images, errors, replace=False)] = True
    labels = np.where(wrong, (true + random.integers(1, classes, images)) % classes, true)
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), true] += skill
    odds = np.exp(logits)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), labels, wrong


def test_planted_label_errors_are_found_with_high_precision_and_recall():
    probabilities, labels, wrong = planted()
    suspects = likely_label_errors(probabilities, labels)
    assert wrong[suspects].mean() > 0.85  # precision
    assert wrong[suspects].sum() / wrong.sum() > 0.75  # recall
    assert wrong[suspects[: len(suspects) // 2]].all()  # the most likely come first


def test_a_better_model_has_higher_precision():
    shares = []
    for skill in (2.0, 4.0, 8.0):
        probabilities, labels, wrong = planted(skill=skill)
        shares.append(wrong[likely_label_errors(probabilities, labels)].mean())
    assert shares == sorted(shares)
    assert shares[-1] > 0.97


def test_correct_labels_and_confident_predictions_give_no_suspects():
    probabilities, labels, wrong = planted(errors=0, skill=30.0)
    assert len(likely_label_errors(probabilities, labels)) == 0


@pytest.mark.filterwarnings("error")
def test_a_class_without_images_and_a_few_images_are_supported():
    probabilities, labels, _ = planted(images=12, errors=2, classes=3)
    labels[labels == 2] = 1
    suspects = likely_label_errors(probabilities, labels)
    assert (probabilities.argmax(axis=1)[suspects] != labels[suspects]).all()


def predictions_with_one_error(others: int, swapped: int) -> np.ndarray:
    """Return confident probabilities of the labels, except a confident error at position swapped."""
    labels_of = (TRAIN + np.arange(others)) % len(CLASSES)
    probabilities = np.full((others, len(CLASSES)), 0.02)
    probabilities[np.arange(others), labels_of] = 0.96
    probabilities[swapped] = np.roll(probabilities[swapped], 1)
    return probabilities


def test_the_table_has_image_label_and_prediction(make_sources):
    sources = make_sources(photographs(90), predictions_with_one_error(30, swapped=20))
    table = label_errors.find(sources)
    row = table.iloc[0]
    assert len(table) == 1
    assert tuple(row[["rank", "split", "index", "label", "predicted"]]) == (1, "test", 800, "ship", "cat")
    assert row["name"] == "a_rather_long_name_of_a_photograph_0080.png"
    assert (row["p_label"], row["p_predicted"]) == pytest.approx((0.02, 0.96))
    assert label_errors.summary(sources, table).startswith("1 of 30 images are suspects (1 in test).")


def test_a_run_without_val_images_is_searched_on_test_only(make_sources):
    sources = make_sources(photographs(90), predictions_with_one_error(30, swapped=3), val=0)
    assert label_errors.find(sources)["split"].tolist() == ["test"]
