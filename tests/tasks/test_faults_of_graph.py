"""The graph, started as users start it, handles full disks, read-only folders, kills and parallel runs."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_graphs import LITTLE
from test_kills import alive, libraries, wait_until
from trees import only

ROOT = Path(__file__).resolve().parents[2]
FAILED = 30
LUIGI = (sys.executable, "-m", "luigi", "--module", "tasks")
DIGITS = ("--dataset", "digits", "--subset", "200")
BRIEF = (*DIGITS, "--epochs", "2", "--filters", "4")
LONG = '{"from-scratch:lesson": {"epochs": 300, "filters": [4]}}'
MOUNT_READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


def start(data: Path, *command: str, largest_file: int | None = None) -> subprocess.Popen:
    """Start a command; largest_file is the file size in bytes at which its disk is full.

    With largest_file, coverage is not measured, because that would also write to the disk.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file,) * 2)) if largest_file else None
    return subprocess.Popen(
        command,
        cwd=data.parent,
        env={
            **(inherited if largest_file else os.environ),
            "PYTHONPATH": str(ROOT),
            "HEADSTART_DATA_DIR": str(data),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=limit,
    )


def ended(process: subprocess.Popen, seconds: float = 100) -> tuple[int, str]:
    """Return the exit code and the output."""
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def test_fault_10_full_disk_fails_the_task_and_publishes_nothing(data_folder):
    command = (*LUIGI, "PrepareDataset", *DIGITS)
    code, output = ended(start(data_folder, *command, largest_file=100_000))
    assert code == FAILED
    assert "could not be written" in output and "Free up space" in output and "Traceback" not in output
    assert not [path for path in data_folder.glob("datasets/**/*") if path.is_file()]
    assert ended(start(data_folder, *command))[0] == 0


@pytest.mark.slow
def test_fault_11_full_disk_leaves_the_previous_report_unchanged(little):
    (little / "reports" / LITTLE.name / "manifest.json").unlink()
    before = {path: path.read_bytes() for path in (little / "reports").rglob("*.*") if path.is_file()}
    script = (
        "import sys; from small_graphs import LITTLE; from pipeline.recipes.presets import PRESETS\n"
        "PRESETS[LITTLE.name] = LITTLE\n"
        "from tasks.commands.main import main; sys.exit(main(sys.argv[1:]))"
    )
    process = start(
        little,
        *(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{script}"),
        *("run", "--preset", LITTLE.name, "--precision", "float32"),
        largest_file=3_000,
    )
    code, output = ended(process)
    assert code == FAILED and "could not be written" in output
    assert {path: path.read_bytes() for path in before} == before
    assert not list(little.rglob("*.scratch-*"))


def test_fault_12_read_only_folder_fails_before_anything_is_computed(data_folder):
    data_folder.mkdir()
    isolated = ("unshare", "--mount", "sh", "-c", MOUNT_READ_ONLY, "sh", str(data_folder))
    if shutil.which("unshare") is None or subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("needs permission to mount in its own namespace")
    code, output = ended(start(data_folder, *isolated, *LUIGI, "PrepareDataset", *DIGITS))
    assert code == 2
    assert "read-only file system" in output and "HEADSTART_DATA_DIR" in output
    assert not list(data_folder.iterdir())


@pytest.mark.slow
def test_fault_17_the_same_command_run_twice_at_once_trains_once(data_folder):
    command = (*LUIGI, "TrainFromScratch", *BRIEF, "--no-lock")
    both = [start(data_folder, *command) for _ in range(2)]
    assert [ended(process)[0] for process in both] == [0, 0]
    assert only(data_folder, "runs/*/manifest.json")
    assert len(list(data_folder.glob("datasets/*/manifest.json"))) == 1
    assert not list(data_folder.rglob("*.scratch-*"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_fault_18_a_killed_child_fails_only_its_task(data_folder):
    schemes = ("--schemes", "from-scratch:lesson", "--seeds", "0,1", "--settings", LONG)
    master = start(data_folder, *LUIGI, "CompareSeeds", *DIGITS, *schemes, "--workers", "2")

    def training() -> list[int]:
        """Return the children that are training: they loaded TensorFlow after the data set was prepared."""
        if not list(data_folder.glob("datasets/*/manifest.json")):
            return []
        return [process for process in alive(data_folder) if "tensorflow" in libraries(process)]

    wait_until(lambda: len(training()) == 2, seconds=90)
    os.kill(training()[0], signal.SIGKILL)
    code, output = ended(master, seconds=200)
    assert code == FAILED
    assert "SIGKILL" in output
    assert len(list(data_folder.glob("runs/*/manifest.json"))) == 1
    assert not alive(data_folder)
