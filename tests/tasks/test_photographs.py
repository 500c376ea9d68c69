"""Photographs of many sizes go through the graph, predictions and exports at 224 px."""

from __future__ import annotations

import csv
import io
import json

import pytest
from photographs import CLASSES, write_photographs
from trees import only

from pipeline.datasets.folders import _scan
from pipeline.recipes.presets import PRESETS, Plan, Preset
from pipeline.use import without_project

PRESET = Preset(
    name="photographs",
    title="Photographs",
    dataset="digits",
    subset=0,
    weights="random",
    seeds=(0,),
    plans=(
        Plan("head:linear", {"epochs": 5}),
        Plan("fine-tune:block5", {"epochs": 1, "top_epochs": 5, "batch_size": 8, "units": [16]}),
        Plan("from-scratch:lesson", {"epochs": 1, "filters": [4, 4, 8], "batch_size": 8}, input_size=32),
    ),
)


@pytest.mark.slow
def test_photographs_of_many_sizes_are_learned_classified_and_exported_at_224_px(
    tmp_path, data_folder, headstart, monkeypatch
):
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)
    monkeypatch.setenv("HEADSTART_EXTENSIONS", "")
    _scan.cache_clear()
    root = write_photographs(tmp_path / "photographs", each=18)
    code, output, errors = headstart("run", "--preset", PRESET.name, "--dataset", f"folder:{root}")
    assert code == 0, errors
    assert "from-scratch:lesson: images are scaled from 224 to 32 px per side, less than half" in errors
    sizes = {}
    for path in data_folder.glob("runs/*/recipe.json"):
        recipe = json.loads(path.read_text())
        sizes[recipe["scheme"]] = (recipe["image_size"], recipe["input_size"])
    assert sizes == {
        "head:linear": (224, 224),
        "fine-tune:block5": (224, 224),
        "from-scratch:lesson": (224, 32),
    }
    page = only(data_folder, f"reports/{PRESET.name}-folder-*/index.html").read_text()
    assert "images 224 px, input 224 px" in page and "fine-tune:block5 · random · 224 px" in page
    run = only(data_folder, "runs/fine-tune-*")
    code, output, _ = headstart("predict", run.name, str(root))
    rows = list(csv.DictReader(io.StringIO(output)))
    assert code == 0 and len(rows) == 36 and {row["class"] for row in rows} <= set(CLASSES)
    out = tmp_path / "model.keras"
    code, output, errors = headstart("export", run.name, str(out), "--format", "keras,saved_model,tflite")
    assert code == 0, errors
    predict = without_project.load_saved_model(str(tmp_path / "model.saved_model"))
    import numpy as np
    from PIL import Image

    for row in rows[:3]:
        pixels = np.asarray(Image.open(row["path"]).convert("RGB"))
        assert predict(pixels[None]).max() == pytest.approx(float(row["probability"]), abs=0.02)
