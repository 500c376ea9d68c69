"""Every command of the README and the guides does what it says: as it stands, or on fewer images and epochs.

make demo, make test and make run PRESET=quick run in CI, luigid and its workers in tests/tasks/test_luigid.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from documents import ROOT, commands
from PIL import Image
from small_networks import save_model
from small_runs import CIFAR10

TASKS = Path(__file__).resolve().parents[1] / "tasks"
ELSEWHERE = ("CompareSchemes", "--scheduler-url", "--dask")  # by CI, by test_luigid, by test_cluster
SMALLER = {  # what makes a command small; the last word on a parameter counts
    "BlockStudy": ["--seeds", "0", "--subset", "0", "--settings", '{"epochs": 1}'],
    "TuneFromScratch": ["--subset", "0", "--epochs", "1", "--trials", "2", "--minutes", "2"],
    "TuneFineTune": ["--subset", "0", "--epochs", "1", "--trials", "2", "--minutes", "2"],
    "LabelEfficiency": ["--budgets", "10%,100%", "--draws", "1"],
    "verify": ["--sample", "2"],
}
COMPLETE = """
import sys
from luigi.cmdline_parser import CmdlineParser
with CmdlineParser.global_instance(sys.argv[1:]) as parser:
    task = parser.get_task_obj()
print(task.complete(), task.folder)
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pictures, a small CIFAR-10 and, in data/, the runs that commands speak of."""
    sys.path.insert(0, str(TASKS))
    import small_cifar10

    folder = tmp_path_factory.mktemp("documents")
    small_cifar10.write(folder / "cifar-10-python.tar.gz")
    for number in range(60):
        kind = folder / "photos" / ("day" if number % 2 else "night")
        kind.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 100, (40, 50, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(kind / f"{number}.png")
    rows = [f"{picture.relative_to(folder)},{picture.parent.name}" for picture in folder.glob("photos/*/*")]
    (folder / "labels.csv").write_text("\n".join(["path,label", *sorted(rows)]))
    brightness = 150 * (np.arange(60) % 2).reshape(60, 1, 1, 1)
    images = np.random.default_rng(0).integers(0, 100, (60, 32, 32, 3)) + brightness
    np.savez(folder / "pictures.npz", images=images.astype(np.uint8), labels=np.arange(60) % 2)
    (folder / "pictures").mkdir()
    for name in ("photo.jpg", "pictures/other.png"):
        Image.new("RGB", (60, 40), "navy").save(folder / name)
    save_model(folder / "model.keras")
    run(folder, ["headstart", "run"])
    return folder


def run(folder: Path, words: list[str]) -> str:
    """Run a command in the folder and return what it prints; it must end with 0."""
    environment = {
        **os.environ,
        "HEADSTART_DATA_DIR": str(folder / "data"),
        "HEADSTART_EXTENSIONS": "small_cifar10",
        "HEADSTART_CIFAR10_URLS": (folder / "cifar-10-python.tar.gz").as_uri(),
        "SMALL_CIFAR10": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(TASKS)]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_predictions(folder: Path, output: str) -> None:
    rows = list(csv.DictReader(io.StringIO(output)))
    assert [Path(row["path"]).name for row in rows] == ["photo.jpg", "other.png"]
    assert all(0 <= float(row["probability"]) <= 1 and row["class"] in CIFAR10 for row in rows)


def check_export(folder: Path, output: str) -> None:
    assert "parity on" in output and "wrote " in output
    model = keras.models.load_model(folder / "model.keras")
    probabilities = model.predict(np.zeros((2, 32, 32, 3), np.uint8), verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    save_model(folder / "model.keras")  # other commands read a backbone of this name


def check_page(folder: Path, output: str) -> None:
    page = Path(re.findall(r"Report: (\S+)", output)[0])
    assert page.is_file() and (page.parent / "comparison.csv").is_file()


def says(pattern: str) -> Callable[[Path, str], None]:
    def check(folder: Path, output: str) -> None:
        assert re.search(pattern, output, re.MULTILINE), output

    return check


CHECKS = {  # what each sub-command of headstart prints or writes
    "run": check_page,
    "plan": says(r"^\d+ of \d+ tasks to run"),
    "why": says(r"^  (missing|stale|done): features/"),
    "verify": says(r"finished folders?, .*: no damage"),
    "clean": says(r"`headstart clean( --keep 20GB)? --yes` removes them$|^nothing to clean"),
    "runs": says(r"^data set .*\n(?:.+\n)*.*head-dense-cifar10-sample-imagenet"),
    "recommend": says(r"^headstart train tuned-head .* --input-size \d+ --layers block"),
    "train": says(r"^Next: headstart predict |^usage: headstart train "),
    "recipes": says(r"^head:dense-bn: "),
    "open": says(r"reports/index.html$"),
    "delete": says(r"^deleted from-scratch-lesson-long-cifar10-sample"),
    "embed": says(r"^features.parquet: (1 pictures, 1472|60 images, 5) features"),
    "show": says(r"^head-dense-cifar10-sample-imagenet.*\n(?:.*\n)*  val accuracy .*test accuracy \d"),
    "compare": check_page,
    "predict": check_predictions,
    "export": check_export,
    "doctor": says(r"^ok +Python 3\."),
    "completion": says(r"^complete .*-F _shtab_headstart headstart$"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("line", [line for line in commands() if not any(word in line for word in ELSEWHERE)])
def test_a_command_of_the_documents_does_what_it_says(place, line):
    words = shlex.split(line)
    if words[0] == "headstart":
        CHECKS[words[1]](place, run(place, [*words, *SMALLER.get(words[1], [])]))
        return
    extra = SMALLER.get(words[3], [])
    if words[3] == "CompareSeeds":
        first = "from-scratch:lesson" if "--schemes" in words else "from-scratch:fast"
        extra = ["--settings", json.dumps({first: {"epochs": 1, "filters": [8, 8, 8]}})]
    output = run(place, [*words, *extra])
    if "--help" in words:
        assert "--learning-rate" in output
        return
    state, folder = run(
        place, [sys.executable, "-c", COMPLETE, "--module", "tasks", *words[3:], *extra]
    ).split()
    assert state == "True"
    assert any(Path(folder).iterdir())
