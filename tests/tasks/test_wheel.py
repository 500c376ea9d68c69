"""A wheel of the project, installed elsewhere, works from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv

import pytest
from photographs import write_photographs
from small_graphs import ROOT


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_wheel_runs_trains_predicts_and_imports_outside_the_checkout(tmp_path):
    def call(*words: object) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"HEADSTART_DATA_DIR": "", "HEADSTART_CIFAR10_URLS": ""}
        done = subprocess.run(
            [*map(str, words)], cwd=place, env=environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    place = tmp_path / "elsewhere"
    place.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path / "wheels", ROOT)
    (wheel,) = (tmp_path / "wheels").glob("headstart-*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    call(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    # What the project depends on is used as it is; the project itself comes from the wheel.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    headstart = tmp_path / "venv" / "bin" / "headstart"
    assert str(packages) in call(python, "-c", "import headstart; print(headstart.__file__)")
    options = ("--dataset", "cifar10-sample", "--weights", "random", "--input-size", "32")
    output = call(headstart, "run", "--schemes", "head:ridge", *options)
    assert f"Report: {place}/data/reports/" in output
    output = call(headstart, "train", "head", "--recipe", "prototype", *options)
    assert "test accuracy" in output
    write_photographs(place / "photos", each=1)
    assert "photos/temple/000.jpg" in call(headstart, "predict", "head-prototype", "photos")
    print_names = "import headstart; print(*headstart.runs()['run'])"
    assert "head-prototype-cifar10-sample-random-seed0-" in call(python, "-c", print_names)
    urls = "from tasks.configuration import mirrors; import tasks; print(*mirrors('cifar10'))"
    assert "https://" in call(python, "-c", urls)
