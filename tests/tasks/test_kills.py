"""When the graph's main process is killed, its children end, and no unfinished run is published."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = ("--dataset", "digits", "--subset", "200", "--epochs", "10000", "--filters", "4")
LUIGI = (sys.executable, "-m", "luigi", "--module", "tasks", "TrainFromScratch", *ENDLESS)

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.slow), "2"])
@pytest.mark.parametrize("name", [pytest.param("SIGINT", marks=pytest.mark.slow), "SIGTERM", "SIGKILL"])
def test_fault_20_no_child_is_alive_five_seconds_after_the_main_process(tmp_path, data_folder, name, workers):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    master = subprocess.Popen(
        [*LUIGI, "--workers", workers],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: training_is_on(data_folder), seconds=60)
        master.send_signal(getattr(signal, name))
        wait_until(lambda: not alive(data_folder), seconds=5)
    finally:
        for process in alive(data_folder):
            os.kill(process, signal.SIGKILL)
        master.wait()
    assert not list((data_folder / "runs").rglob("manifest.json"))
    assert len(list((data_folder / "datasets").rglob("manifest.json"))) == 1


def training_is_on(data_folder: Path) -> bool:
    """Return whether the data set is prepared and a child has loaded TensorFlow for the next task."""
    prepared = list((data_folder / "datasets").rglob("manifest.json"))
    return bool(prepared) and any("tensorflow" in libraries(process) for process in alive(data_folder))


def alive(data_folder: Path) -> list[int]:
    """Return the processes, except zombies, whose environment names this test's data folder."""
    variable = f"HEADSTART_DATA_DIR={data_folder}".encode()
    processes = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            mine = variable in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mine and int(folder.name) != os.getpid():
            processes.append(int(folder.name))
    return processes


def libraries(process: int) -> str:
    try:
        return Path(f"/proc/{process}/maps").read_text()
    except OSError:
        return ""


def wait_until(holds, *, seconds: float) -> None:
    """Wait until holds() is true; fail after the given seconds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"did not happen within {seconds} s"
        time.sleep(0.1)
