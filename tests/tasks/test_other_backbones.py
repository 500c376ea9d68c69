"""The graph with other backbones: features, heads, the recommendation, fine-tuning, the comparison."""

from __future__ import annotations

import csv
import json

import pytest
from small_graphs import build

from pipeline.backbones.table import BACKBONES
from pipeline.recipes.presets import PRESETS, Plan, Preset
from tasks import CompareSchemes, Recommend

SMALL = {"epochs": 1, "top_epochs": 1, "units": [8], "flip": False, "test_views": ["identity"]}
OTHERS = Preset(
    name="others",
    title="A hundred digits with another backbone",
    dataset="digits",
    subset=100,
    weights="random",
    seeds=(0,),
    plans=(
        Plan("head:linear", {"epochs": 2}),
        Plan("fine-tune:block5", SMALL),
        Plan("fine-tune:whole", SMALL | {"shift": 0}),
    ),
)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("backbone", ["vgg19", "resnet50", "MobileNetV3Small"])
def test_another_backbone_runs_the_whole_graph(monkeypatch, data_folder, backbone):
    monkeypatch.setitem(PRESETS, "others", OTHERS)
    root = CompareSchemes(preset="others", backbone=backbone, input_size=32)
    heads, block5, whole = (score.run_task for score, _ in root.results)
    monkeypatch.setattr("tasks.recommendation.SIZES", (32,))
    assert build(root, heads.clone(Recommend))
    title = f"random ({BACKBONES[backbone].title})"
    with (data_folder / "reports" / "others" / "comparison.csv").open() as file:
        assert [row["weights"] for row in csv.DictReader(file)] == [title] * 3
    recipes = {
        run: json.loads((run.folder / "recipe.json").read_text(encoding="utf-8"))
        for run in (heads, block5, whole)
    }
    assert tuple(recipes[heads]["settings"]["layers"]) == BACKBONES[backbone].taps
    assert recipes[block5]["prefix"].startswith(f"from cached maps of {BACKBONES[backbone].taps[3]}")
    assert recipes[whole]["prefix"] == "from images, because no block stays frozen throughout training"
    assert recipes[block5]["trainable_parameters"] < recipes[whole]["trainable_parameters"]
    assert recipes[block5]["parameters"] == recipes[whole]["parameters"]
