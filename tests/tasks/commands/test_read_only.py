"""Commands that read work on a read-only data folder; those that write there refuse before they begin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from small_graphs import ROOT
from test_faults_of_graph import MOUNT_READ_ONLY
from trees import tree

# Runs commands in one process; prints a line of JSON for each: exit code, output and errors.
SCRIPT = """
import contextlib, io, json, sys
from small_graphs import LITTLE
from pipeline.backbones.engines import ENGINES
from pipeline.recipes.presets import PRESETS
from tasks.commands import doctor
from tasks.commands.main import main
import luigi
PRESETS[LITTLE.name] = LITTLE
doctor.ENGINES = {"tensorflow": ENGINES["tensorflow"]}
for arguments in json.loads(sys.argv[1]):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    luigi.task_register.Register.clear_instance_cache()
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        code = main(arguments)
    for stream in streams:
        stream.flush()
    print(json.dumps([code, *(stream.buffer.getvalue().decode() for stream in streams)]))
"""
READERS = """
import sys
import headstart
table = headstart.list_features()
name = table[table["pooling"] == "average"]["name"].item()
assert headstart.open_features(name).load("block1_pool").shape == (100, 64)
run = headstart.runs()["run"].item()
if sys.argv[1:]:
    assert len(headstart.load_model(run).class_names) == 10
"""
LITTLE = ["--preset", "little", "--precision", "float32"]
DATA = ["--dataset", "digits", "--subset", "100", "--weights", "random", "--precision", "float32"]


@pytest.fixture
def read_only(little, tmp_path):
    """Return a function that runs Python with a read-only data folder."""
    isolated = ("unshare", "--mount", "sh", "-c", MOUNT_READ_ONLY, "sh", str(little))
    if shutil.which("unshare") is None or subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("needs permission to mount in its own namespace")
    (little / ".speed.json").unlink(missing_ok=True)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            color = (number, 9 * number, 200 * (name == "a"))
            Image.new("RGB", (32, 32), color).save(tmp_path / "photos" / name / f"{number}.png")
    before = tree(little)

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
        paths = [str(ROOT), str(Path(__file__).parents[1])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HEADSTART_DATA_DIR": str(little)}
        command = [*isolated, sys.executable, "-c", script, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110
        )

    yield run
    assert tree(little) == before


def results_of(done: subprocess.CompletedProcess, commands: list[list[str]]) -> list[tuple]:
    assert done.returncode == 0, done.stderr
    return [
        (arguments, *json.loads(line))
        for arguments, line in zip(commands, done.stdout.splitlines(), strict=True)
    ]


def test_fault_12_commands_that_read_work_on_a_read_only_data_folder(read_only, tmp_path):
    commands = [
        ["plan", *LITTLE],
        ["plan", "--dataset", "digits", "--subset", "200", "--weights", "random"],
        ["plan", "--dataset", "folder:photos", "--weights", "random"],
        ["why", "TrainHead", *LITTLE],
        ["run", *LITTLE],
        ["runs"],
        ["show", "head-linear"],
        ["recipes"],
        ["recipes", "head:dense"],
        ["open"],
        ["open", "little"],
        ["verify", "--sample", "0"],
        ["clean"],
        ["clean", "--keep", "1kB"],
        ["doctor", "--offline"],
        ["completion", "bash"],
        ["embed", "--out", "digits.h5", *DATA, "--layers", "block1_pool"],
    ]
    for arguments, code, output, errors in results_of(read_only(SCRIPT, json.dumps(commands)), commands):
        assert (code, errors) == (0, ""), arguments
        assert output
    assert (tmp_path / "digits.h5").is_file()


def test_fault_12_the_readers_in_python_work_on_a_read_only_data_folder(read_only):
    done = read_only(READERS)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_fault_12_predict_export_and_verify_work_on_a_read_only_data_folder(read_only, tmp_path):
    commands = [
        ["predict", "head-linear", "photos", "--output", "photos.csv"],
        ["export", "head-linear", "model.keras"],
        ["verify", "--sample", "2"],
    ]
    for arguments, code, _, errors in results_of(read_only(SCRIPT, json.dumps(commands)), commands):
        assert (code, errors) == (0, ""), arguments
    assert (tmp_path / "photos.csv").is_file() and (tmp_path / "model.keras").is_file()
    done = read_only(READERS, "model")
    assert done.returncode == 0, done.stderr


def test_fault_12_commands_that_write_refuse_a_read_only_data_folder_before_they_begin(read_only, tmp_path):
    commands = [
        ["run", "--preset", "little", "--precision", "float32", "--seeds", "1"],
        ["train", "head", *DATA],
        ["recommend", "--dataset", "digits", "--weights", "random"],
        ["delete", "head-linear", "--yes"],
        ["clean", "--keep", "1kB", "--yes"],
        ["verify", "--repair", "--sample", "0"],
        ["compare", "head-linear", "runs"],
        ["predict", "head-linear", "photos", "--output", "data/photos.csv"],
        ["embed", "photos", "--out", "data/photos.npy", *DATA[4:]],
    ]
    other = tmp_path / "runs"
    run = next((tmp_path / "data" / "runs").iterdir())
    shutil.copytree(run, other)
    for arguments, code, output, errors in results_of(read_only(SCRIPT, json.dumps(commands)), commands):
        assert (code, output) == (2, ""), arguments
        assert len(errors.splitlines()) == 1 and "ead-only file system" in errors, arguments


@pytest.mark.slow
def test_fault_12_pictures_are_not_computed_if_their_features_cannot_be_kept(read_only):
    options = ["--weights", "random", "--image-size", "32", "--layers", "block1_pool"]
    commands = [["embed", "photos", "--out", "photos.npy", *options]]
    ((_, code, _, errors),) = results_of(read_only(SCRIPT, json.dumps(commands)), commands)
    assert code == 2 and "could not be written (Read-only file system)" in errors
