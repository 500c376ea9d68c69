"""A training that is killed while it saves, or between its files, ends as an undisturbed one does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from pipeline.children import run_in_child
from pipeline.publishing import read_manifest
from pipeline.results.run import read_run
from pipeline.training.checkpoint import FILE
from pipeline.training.record import FILES, train_run
from pipeline.training.schemes import find_scheme
from pipeline.training.settings import as_dict

# Keras saves and loads its variables in a way of which NumPy 2 warns
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# Three epochs write three checkpoints; then come model, history, predictions, recipe, costs and manifest.
EPOCHS, FILES_BEFORE = 3, 3
KINDS = {
    "from-scratch:lesson": {
        "conv_blocks": "conv - batch norm - maxpool - dropout",
        **{"filters": [4], "units": [8], "batch_size": 16, "optimizer": "sgd", "averaging": "lookahead"},
    },
    "fine-tune:block5": {"units": [8], "top_epochs": 1, "batch_size": 35},
}
KILLED = """
import json, os, signal, sys
from pathlib import Path
import numpy

way, number = sys.argv[1], int(sys.argv[2])
seen = 0
replace, savez = Path.replace, numpy.savez

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def counted_replace(self, target):
    global seen
    seen += 1
    if way == "before" and seen == number:
        die()
    found = replace(self, target)
    if way == "behind" and seen == number:
        die()
    return found

def half(path, **arrays):
    global seen
    savez(path, **arrays)
    if way == "amid" and seen + 1 == number:
        os.truncate(path, os.path.getsize(path) // 2)
        die()

Path.replace, numpy.savez = counted_replace, half
from pipeline.training.record import train_run
train_run(**json.load(sys.stdin))
"""


def arguments_of(text: str, request) -> dict:
    """Return what train_run is told for a small run of a scheme."""
    scheme, name = find_scheme(text)
    pretrained = "weights" in scheme.needs
    order = {
        "scheme": text,
        "settings": as_dict(scheme.recipe(name, {**KINDS[text], "epochs": EPOCHS})),
        "seed": 3,
        "precision": "float32",
    }
    features = {"features": {"layers": ["block5_pool"], "views": ["identity"]}} if pretrained else {}
    order |= {
        "fingerprint": {**order, **features},
        "weights": "random" if pretrained else "none",
        "backbone": "vgg16" if pretrained else "none",
    }
    inputs = {name: str(request.getfixturevalue(name)) for name in scheme.needs}
    return {"order": order, "dataset": str(request.getfixturevalue("digits")), **inputs}


@pytest.fixture(scope="module")
def undisturbed(request, shelf):
    """Return the folder of a run of a scheme that nobody disturbed, made once."""
    made = {}

    def folder(text: str):
        if text not in made:
            made[text] = shelf / f"undisturbed-{text.partition(':')[0]}"
            run_in_child(train_run, {**arguments_of(text, request), "folder": str(made[text])})
        return made[text]

    return folder


def points(text: str) -> list:
    """Return every moment at which a run of a scheme is killed."""
    found = [("amid", 2), ("before", 2), ("behind", 2)]
    found += [("before", FILES_BEFORE + number) for number in range(1, len(FILES) + 2)]
    found += [("behind", FILES_BEFORE + len(FILES) + 1)]
    return [(text, way, number) for way, number in found]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "way", "number"), [*points("from-scratch:lesson"), *points("fine-tune:block5")]
)
def test_a_kill_while_saving_or_between_files_changes_nothing(
    text, way, number, undisturbed, request, tmp_path
):
    arguments = {**arguments_of(text, request), "folder": str(tmp_path / "run")}
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, way, str(number)], stdin=subprocess.PIPE, text=True
    )
    child.communicate(json.dumps(arguments))
    assert child.returncode == -signal.SIGKILL
    finished = way == "behind" and number > FILES_BEFORE
    assert (tmp_path / "run" / "manifest.json").exists() == finished
    assert (tmp_path / "run" / FILE).exists()
    if not finished:
        run_in_child(train_run, arguments)
        assert {path.name for path in (tmp_path / "run").iterdir()} == {*FILES, "manifest.json"}
    assert read_manifest(tmp_path / "run").missing() is None
    whole, killed = undisturbed(text), tmp_path / "run"
    assert (killed / "predictions.h5").read_bytes() == (whole / "predictions.h5").read_bytes()
    histories = [read_run(folder).history.drop(columns="seconds") for folder in (whole, killed)]
    assert histories[0].equals(histories[1])
    assert len(histories[0]) == EPOCHS + (text == "fine-tune:block5")
