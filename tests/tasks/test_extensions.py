"""An extension that adds a row to each table runs through the whole graph."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from pipeline.runs.result import read_run

HERE = str(Path(__file__).parent)
OUTSIDE = {"HEADSTART_EXTENSIONS": "rows_from_outside", "PYTHONPATH": HERE}


def worst_class_of(run: Path) -> float:
    """Return the lowest accuracy of any class on the test images of a stored run."""
    test = read_run(run).split("test")
    correct = pd.Series(test.probabilities.argmax(axis=1) == test.labels)
    return correct.groupby(test.labels).mean().min()


@pytest.mark.slow
def test_new_rows_of_each_table_reach_the_comparison(call, data_folder):
    done = call("-m", "tasks.commands.main", "run", "--preset", "outside", **OUTSIDE)
    assert done.returncode == 0, done.stderr
    report = data_folder / "reports" / "outside"
    with (report / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["scheme"] for row in rows] == ["head:narrow", "from-scratch:small", "shares:plain"]
    assert {row["data_set"] for row in rows} == {"stripes"}
    runs = [next(data_folder.glob(f"runs/{row['scheme'].replace(':', '-')}-*")) for row in rows]
    assert [float(row["worst_class"]) for row in rows] == pytest.approx([worst_class_of(run) for run in runs])
    assert (report / "outside.png").is_file()
    assert len(list((data_folder / "reports" / "runs").glob("*/plots/outside.png"))) == 3
    tables = (data_folder / "reports" / "runs").glob("*/metrics/metrics.csv")
    assert all("worst_class" in table.read_text() for table in tables)


@pytest.mark.slow
def test_features_of_a_new_backbone_are_cached(call, data_folder):
    options = ("--backbone", "vgg-plain", "--weights", "random", "--dataset", "stripes")
    done = call("-m", "luigi", "--module", "tasks", "ExtractFeatures", *options, **OUTSIDE)
    assert done.returncode == 0, done.stderr
    assert len(list((data_folder / "features").glob("vgg-plain-random-stripes-*/*/shard-00000.h5"))) == 1


def test_a_new_scheme_gets_its_own_luigi_task(call):
    done = call("-m", "luigi", "--module", "tasks", "CountShares", "--help", **OUTSIDE)
    assert done.returncode == 0
    assert "--recipe" in done.stdout
