"""The complete graph, from download to report: killed at random moments, and run twice from scratch."""

from __future__ import annotations

import functools
import http.server
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
import small_cifar10
from test_kills import alive, wait_until

from pipeline.storage.publishing import sha256_of

ROOT, HERE = Path(__file__).resolve().parents[2], Path(__file__).parent
ROUNDS = 30
LATEST_KILL = 25.0  # seconds; each round resumes from the one before, so kills reach all tasks
COSTS = ("train_seconds", "extract_seconds", "total_seconds", "peak_memory_mb")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc"),
]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """The URL of the archive on a server on the loopback interface."""
    folder = tmp_path_factory.mktemp("mirror")
    small_cifar10.write(folder / "cifar-10-python.tar.gz")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            """Print nothing."""

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/cifar-10-python.tar.gz"
    server.shutdown()


def start(data: Path, mirror: str, *arguments: str) -> subprocess.Popen:
    """Start the graph of a preset with data as the data folder."""
    environment = {
        **os.environ,
        "HEADSTART_DATA_DIR": str(data),
        "HEADSTART_EXTENSIONS": "small_cifar10",
        "HEADSTART_CIFAR10_URLS": mirror,
        "SMALL_CIFAR10": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
    }
    command = [
        sys.executable,
        "-c",
        "import sys; from tasks.commands.main import main; sys.exit(main())",
        "run",
    ]
    data.mkdir(parents=True, exist_ok=True)
    with (data.parent / f"{data.name}.log").open("a") as log:
        return subprocess.Popen(
            [*command, *arguments], cwd=data.parent, env=environment, stdout=log, stderr=log
        )


def results(data: Path, preset: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the comparison without the costs, and the digest of each run's predictions."""
    table = pd.read_csv(data / "reports" / preset / "comparison.csv").drop(columns=list(COSTS))
    return table, {path.parent.name: sha256_of(path) for path in data.glob("runs/*/predictions.h5")}


def assert_same(actual: tuple, expected: tuple) -> None:
    pd.testing.assert_frame_equal(actual[0], expected[0])
    assert actual[1] == expected[1]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, mirror) -> tuple:
    """The results of a graph that was not killed."""
    data = tmp_path_factory.mktemp("uninterrupted") / "data"
    assert start(data, mirror, "--preset", "small").wait(600) == 0, (data.parent / "data.log").read_text()
    return results(data, "small")


@pytest.mark.timeout(3000)
def test_fault_08_a_graph_killed_at_random_moments_gives_the_same_results(tmp_path, mirror, uninterrupted):
    data, draws, killed = tmp_path / "data", random.Random(0), 0
    while killed < ROUNDS:
        master = start(data, mirror, "--preset", "small")
        try:
            code = master.wait(draws.uniform(0.1, LATEST_KILL))
        except subprocess.TimeoutExpired:
            master.send_signal(signal.SIGKILL)
            master.wait()
            wait_until(functools.partial(_none_alive, data), seconds=10)
            killed += 1
            continue
        assert code == 0, (tmp_path / "data.log").read_text()
        assert_same(results(data, "small"), uninterrupted)
        shutil.rmtree(data)
    assert start(data, mirror, "--preset", "small").wait(600) == 0, (tmp_path / "data.log").read_text()
    assert_same(results(data, "small"), uninterrupted)


def _none_alive(data: Path) -> bool:
    return not alive(data)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_two_runs_of_the_graph_from_scratch_give_the_same_numbers(tmp_path, mirror, uninterrupted, workers):
    data = tmp_path / "data"
    assert start(data, mirror, "--preset", "small", "--workers", workers).wait(800) == 0
    assert_same(results(data, "small"), uninterrupted)
    assert start(data, mirror, "--preset", "small").wait(60) == 0  # and again, with everything done


@pytest.mark.timeout(3000)
def test_two_runs_of_the_demo_from_scratch_give_the_same_numbers(tmp_path, mirror):
    folders = [tmp_path / name for name in ("one", "two")]
    for data in folders:
        assert start(data, mirror, "--preset", "demo").wait(1400) == 0
    assert_same(results(folders[1], "demo"), results(folders[0], "demo"))
