"""The layer atlas on a hundred digits."""

from __future__ import annotations

import csv
import json
import re
import shlex

import luigi
import numpy as np
import pytest
from PIL import Image
from small_graphs import build

from pipeline.recipes.presets import PRESETS, Plan, Preset
from pipeline.report.atlas.layer_sets import PROBES
from pipeline.report.atlas.report import ATLAS_FILES
from pipeline.storage.publishing import read_manifest
from tasks import CompareSchemes, ExtractFeatures, LayerAtlas, PrepareDataset

DIGITS = {"dataset": "digits", "subset": 100, "weights": "random", "precision": "float32"}


@pytest.fixture
def atlas(data_folder):
    """A finished atlas."""
    task = LayerAtlas(**DIGITS)
    assert not task.complete()
    assert build(task)
    return task


@pytest.mark.slow
def test_an_atlas_recommends_a_cut_and_a_second_run_does_nothing(atlas):
    assert set(read_manifest(atlas.folder).files) == set(ATLAS_FILES)
    with (atlas.folder / "atlas.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["blocks"] for row in rows[:: len(PROBES)]][:6] == ["1", "2", "3", "4", "5", "1+2"]
    assert all(float(row["test_accuracy_low"]) <= float(row["test_accuracy"]) for row in rows)
    assert {row["multiply_adds"] for row in rows if row["depth"] == "5"} == {"313196544"}
    cut = json.loads((atlas.folder / "cut.json").read_text())
    assert 1 <= cut["freeze_through"] <= 4
    assert f"Cut after block {cut['freeze_through']}: " in (atlas.folder / "atlas.md").read_text()
    for name in ("accuracy_by_depth.png", "per_class_by_depth.png"):
        pixels = np.asarray(Image.open(atlas.folder / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20

    before = {path: path.stat().st_mtime_ns for path in atlas.folder.iterdir()}
    luigi.task_register.Register.clear_instance_cache()
    assert build(LayerAtlas(**DIGITS))
    assert {path: path.stat().st_mtime_ns for path in atlas.folder.iterdir()} == before

    (atlas.folder / "accuracy_by_depth.png").unlink()
    assert not atlas.complete()
    assert build(atlas)
    tables = [atlas.folder / name for name in ("atlas.csv", "per_class.csv")]
    assert [path.stat().st_mtime_ns for path in tables] == [
        before[path] for path in tables
    ]  # not probed again


def test_the_command_of_an_atlas_fine_tunes_on_the_same_data_and_weights():
    command = shlex.split(LayerAtlas(**DIGITS).command)
    assert command[:6] == ["luigi", "--module", "tasks", "FineTune", "--recipe", "whole"]
    options = dict(zip(command[6::2], command[7::2], strict=True))
    assert options == {f"--{name}": str(value) for name, value in DIGITS.items()}


def test_an_atlas_reads_all_layers_of_the_unaugmented_images():
    task = LayerAtlas(input_size=64, storage="float16", **DIGITS)
    features = ExtractFeatures(layers="all", views="identity", input_size=64, storage="float16", **DIGITS)
    data = PrepareDataset(dataset="digits", subset=100)
    assert task.requires() == {"dataset": data, "features": features}
    assert task.folder.parent.name == "atlas"
    assert task.folder.name.startswith("vgg16-random-digits-100-")
    assert task.folder != LayerAtlas(**DIGITS).folder


def test_every_preset_reports_one_atlas_of_its_weights_unless_they_are_random():
    for name, preset in PRESETS.items():
        report = CompareSchemes(preset=name)
        parameters = {name: getattr(preset, name) for name in ("dataset", "subset", "weights", "input_size")}
        expected = LayerAtlas(**parameters)
        assert report.atlases == [expected]
        assert expected in report.requires()
    assert CompareSchemes(preset="demo", weights="random").atlases == []


def test_a_preset_without_heads_reports_no_atlas(monkeypatch):
    preset = Preset("scratch", "", "digits", 100, "imagenet", (0,), (Plan("from-scratch:lesson"),))
    monkeypatch.setitem(PRESETS, "scratch", preset)
    assert CompareSchemes(preset="scratch").atlases == []


@pytest.mark.slow
def test_a_report_includes_its_atlas_and_is_stale_when_the_atlas_is(monkeypatch, data_folder):
    head = Plan("head:linear", {"epochs": 2, "layers": ["block1_pool"]})
    monkeypatch.setitem(PRESETS, "few", Preset("few", "", "digits", 100, "imagenet", (0,), (head,)))
    report = CompareSchemes(preset="few")
    assert build(report)
    (atlas,) = report.atlases
    words = json.loads((atlas.folder / "cut.json").read_text())
    page, text = ((report.folder / f"comparison.{suffix}").read_text() for suffix in ("md", "txt"))
    assert words["words"] in page
    assert words["words"] in " ".join(text.split())
    assert words["command"] in text
    pictures = re.findall(r"\]\(([^)]*by_depth\.png)\)", page)
    assert len(pictures) == 2
    assert all((report.folder / picture).is_file() for picture in pictures)
    assert len(list((data_folder / "features").glob("*/*/manifest.json"))) == 1  # one extraction serves both

    (atlas.folder / "atlas.md").unlink()
    assert not report.complete()
    assert build(report)
