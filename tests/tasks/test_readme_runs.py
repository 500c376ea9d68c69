"""Every command of the README runs to its end: as it stands, or on fewer images, epochs and trials.

make demo, make test and make run PRESET=quick run in CI; luigid and its workers in test_luigid.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_cifar10
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = ("CompareSchemes", "--scheduler-url", "--help")  # by CI, by test_luigid; and what only prints
SMALLER = {  # what is said behind a command to make it small; the last word on a parameter counts
    "BlockStudy": ["--seeds", "0", "--subset", "0", "--settings", '{"epochs": 1}'],
    "TuneFromScratch": ["--subset", "0", "--epochs", "1", "--trials", "2", "--minutes", "2"],
    "TuneFineTune": ["--subset", "0", "--epochs", "1", "--trials", "2", "--minutes", "2"],
    "LabelEfficiency": ["--budgets", "10%,100%", "--draws", "1"],
    "verify": ["--sample", "2"],
}
pytestmark = pytest.mark.slow


def commands() -> list[str]:
    """Return the README's commands of luigi and headstart in their order, without what explains them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^    ((?:luigi --module tasks|headstart) .*)$", text, flags=re.MULTILINE)
    lines = [re.split(r"\s+#", line)[0] for line in found]
    return [line for line in lines if not any(word in line for word in ELSEWHERE)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pictures, a small CIFAR-10 and, in data/, the runs that commands speak of."""
    folder = tmp_path_factory.mktemp("readme")
    small_cifar10.write(folder / "cifar-10-python.tar.gz")
    for number in range(60):
        kind = folder / "photos" / ("day" if number % 2 else "night")
        kind.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 100, (40, 50, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(kind / f"{number}.png")
    (folder / "pictures").mkdir()
    for name in ("photo.jpg", "pictures/other.png"):
        Image.new("RGB", (60, 40), "navy").save(folder / name)
    for recipe in ("whole", "block5"):
        command = f"luigi --module tasks FineTune --recipe {recipe} --epochs 1"
        _run(folder, f"{command} --dataset digits --weights hed")
    return folder


def _run(folder: Path, line: str) -> str:
    environment = {
        **os.environ,
        "HEADSTART_DATA_DIR": str(folder / "data"),
        "HEADSTART_EXTENSIONS": "small_cifar10",
        "HEADSTART_CIFAR10_URLS": (folder / "cifar-10-python.tar.gz").as_uri(),
        "SMALL_CIFAR10": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    done = subprocess.run(
        shlex.split(line), cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize("line", commands())
def test_command_of_the_readme_runs(place, line):
    words = shlex.split(line)
    name = words[3] if words[0] == "luigi" else words[1]
    extra = SMALLER.get(name, [])
    if name == "CompareSeeds":
        first = "from-scratch:lesson" if "--schemes" in words else "from-scratch:fast"
        extra = ["--settings", json.dumps({first: {"epochs": 1, "filters": [8, 8, 8]}})]
    output = _run(place, shlex.join([*words, *extra]))
    assert output or words[0] == "luigi"
