"""Findings on a hundred digits come from a run and its features, and are stale without the run."""

from __future__ import annotations

import csv

import pytest
from small_graphs import build

from pipeline.report.table import FINDINGS
from pipeline.storage import layout
from pipeline.storage.publishing import read_manifest
from tasks import DataFindings
from tasks.configuration import data_folder

LITTLE_RUN = {
    "dataset": "digits",
    "subset": 100,
    "weights": "random",
    "precision": "float32",
    "settings": {"epochs": 2, "layers": ["block1_pool"]},
}


@pytest.mark.slow
def test_findings_are_tables_figures_and_a_page_in_the_runs_reports(little):
    task = DataFindings(**LITTLE_RUN)
    assert not task.complete()
    assert build(task)
    assert task.folder == layout.run_reports(data_folder(), task.run_task.folder) / "findings"
    files = {"findings.md", *(f"{name}.{suffix}" for name in FINDINGS for suffix in ("csv", "png"))}
    assert set(read_manifest(task.folder).files) == files
    page = (task.folder / "findings.md").read_text()
    for name, row in FINDINGS.items():
        with (task.folder / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert row.title in page
        assert f"]({name}.png)" in page
        assert all(one["name"].startswith("digit_") and one["split"] in ("val", "test") for one in rows)

    (task.run_task.folder / "predictions.h5").unlink()
    assert not task.complete()


@pytest.mark.parametrize(
    ("scheme", "layers"),
    [
        ("head:linear", "block1_pool"),
        ("fine-tune:block5", "block3_pool,block4_pool,block5_pool"),
        ("from-scratch:lesson", "block3_pool,block4_pool,block5_pool"),
    ],
)
def test_images_are_compared_by_the_heads_layers_or_by_the_last_three(scheme, layers):
    settings = LITTLE_RUN["settings"] if scheme == "head:linear" else {}
    task = DataFindings(**{**LITTLE_RUN, "scheme": scheme, "settings": settings})
    assert task.features_task.layers == layers
    assert task.features_task.views == "identity"
    assert task.features_task in task.requires().values()
