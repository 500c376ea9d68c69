"""Workers of a Dask cluster share an extraction: byte for byte as one process, and no shard twice."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from test_kills import alive

from pipeline.errors import HeadstartError

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
DATA = ("--dataset", "digits", "--weights", "random")
EXTRACT = ("-m", "luigi", "--module", "tasks", "ExtractFeatures", *DATA)
EXTRACT += ("--layers", "block1_pool", "--precision", "float32", "--local-scheduler")
SHARDS = 29
pytestmark = pytest.mark.timeout(300)
FAILED = 30
WORKER_WITH_FREE_LOCKS = """
import sys
import free_locks
from distributed.cli.dask_worker import main
main(sys.argv[1:])
"""
WITHOUT_DASK = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "distributed" else find(name, *more)
"""
OTHER_PROCESSOR = """
from pipeline import machine
flags = machine.cpu_flags()
machine.cpu_flags = lambda: flags | {"avx1024"}
"""


@pytest.fixture
def cluster(tmp_path, data_folder):
    """A Dask cluster on the loopback interface, whose processes are killed after the test."""
    pytest.importorskip("distributed", reason="needs the extra dask")
    (tmp_path / "shards.log").touch()
    one = Cluster(tmp_path)
    yield one
    for process in one.running:
        process.kill()
        process.wait()


class Cluster:
    """Starts a scheduler, workers without a nanny, and extractions; they log to tmp_path."""

    def __init__(self, folder: Path):
        self.folder, self.running = folder, []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen:
        paths = os.pathsep.join((str(ROOT), str(HERE)))
        more = {"PYTHONPATH": paths, "HEADSTART_EXTENSIONS": "small_shards", "SHARD_SECONDS": "1"}
        more |= {"SHARD_LOG": str(self.folder / "shards.log"), **environment}
        with (self.folder / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env={**os.environ, **more},
                stderr=log,
                stdout=log,
            )
        self.running.append(process)
        return process

    def scheduler(self) -> subprocess.Popen:
        port = self.address.rpartition(":")[2]
        options = ("--host", "127.0.0.1", "--port", port, "--dashboard-address", "127.0.0.1:0")
        return self.start("scheduler", "-m", "distributed.cli.dask_scheduler", *options)

    def worker(self, name: str, *more: str, **environment: str) -> subprocess.Popen:
        options = (*self.worker_options(), *more)
        return self.start(name, "-m", "distributed.cli.dask_worker", *options, **environment)

    def worker_options(self) -> tuple[str, ...]:
        place = ("--host", "127.0.0.1", "--local-directory", str(self.folder))
        return (self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", *place)

    def command(self, name: str = "command", *more: str, **environment: str) -> subprocess.Popen:
        return self.start(name, *EXTRACT, "--dask", self.address, *more, **environment)

    def published(self) -> list[tuple[str, int]]:
        """Return the process and the number of each shard that was published, in order."""
        lines = (self.folder / "shards.log").read_text().splitlines()
        return [(process, int(number)) for process, number in map(str.split, lines)]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


def shards(data: Path) -> dict[str, bytes]:
    """Return the bytes of all shards and manifests of features by path."""
    paths = [*(data / "features").rglob("shard-*.h5"), *(data / "features").rglob("manifest.json")]
    return {str(path.relative_to(data)): path.read_bytes() for path in paths}


def assert_like_one_process(cluster: Cluster, data_folder: Path) -> None:
    """Check that no shard was published twice, and that the cache is that of one process."""
    assert set(Counter(number for _, number in cluster.published()).values()) == {1}
    alone = {
        "HEADSTART_DATA_DIR": str(cluster.folder / "alone"),
        "SHARD_LOG": os.devnull,
        "SHARD_SECONDS": "0",
    }
    assert cluster.start("one", *EXTRACT, **alone).wait(90) == 0, cluster.log("one")
    assert len(shards(data_folder)) == SHARDS + 1
    assert shards(data_folder) == shards(cluster.folder / "alone")


@pytest.mark.slow
def test_workers_that_are_killed_stopped_and_added_give_the_cache_of_one_process(
    cluster, data_folder, wait_for
):
    cluster.scheduler()
    workers = [cluster.worker(f"worker{number}") for number in range(3)]
    command = cluster.command()
    wait_for(lambda: len({process for process, _ in cluster.published()}) == 3, seconds=100)
    workers[0].send_signal(signal.SIGKILL)  # in the middle of its next shard
    workers[1].send_signal(signal.SIGSTOP)
    cluster.worker("worker3")
    time.sleep(2)
    workers[1].send_signal(signal.SIGCONT)
    assert command.wait(100) == 0, cluster.log("command")
    assert re.search(r"Dask dashboard: http://127\.0\.0\.1:\d+/status", cluster.log("command"))
    assert_like_one_process(cluster, data_folder)


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_command_and_the_next_one_computes_what_is_missing(
    cluster, data_folder, wait_for
):
    scheduler = cluster.scheduler()
    workers = [cluster.worker(f"worker{number}") for number in range(2)]
    command = cluster.command()
    wait_for(lambda: len(cluster.published()) >= 3, seconds=100)
    scheduler.kill()
    assert command.wait(30) == FAILED
    # Dask's reason depends on what the command waits for: "connection …" or "… stream is closed".
    assert re.search(r"Dask scheduler tcp://[\d.:]+: .+; finished shards are kept\n", cluster.log("command"))
    assert "Traceback" not in cluster.log("command")
    for worker in workers:
        worker.wait(60)
    before = shards(data_folder)
    assert SHARDS > len(before) >= 3
    cluster.scheduler()
    for number in range(2):
        cluster.worker(f"worker{number}")
    assert cluster.command().wait(100) == 0, cluster.log("command")
    assert before.items() <= shards(data_folder).items()
    assert_like_one_process(cluster, data_folder)


@pytest.mark.slow
def test_a_shard_that_two_clusters_compute_at_once_is_computed_once(cluster, data_folder):
    other = Cluster(cluster.folder)
    other.running = cluster.running
    for number, one in enumerate((cluster, other)):
        one.scheduler()
        one.worker(f"worker{number}")
    commands = [one.command(f"command{number}") for number, one in enumerate((cluster, other))]
    codes = [command.wait(100) for command in commands]
    assert codes == [0, 0], cluster.log("command0") + cluster.log("command1")
    assert_like_one_process(cluster, data_folder)


@pytest.mark.slow
def test_a_worker_of_another_processor_is_named_and_refused_unless_allowed(cluster, data_folder):
    (cluster.folder / "other.py").write_text(OTHER_PROCESSOR)
    cluster.scheduler()
    cluster.worker("worker", "--preload", "other.py")
    assert cluster.command().wait(60) == FAILED
    line = r"Dask worker tcp://[\d.:]+: processor\.avx1024: true, expected nothing .*--allow-mixed-workers"
    assert re.search(line, cluster.log("command"))
    assert shards(data_folder) == {}
    allowed = cluster.command("allowed", "--allow-mixed-workers")
    assert allowed.wait(100) == 0, cluster.log("allowed")
    assert len(shards(data_folder)) == SHARDS + 1


@pytest.mark.slow
def test_of_workers_that_join_later_one_of_another_processor_gets_no_shard(cluster, data_folder, wait_for):
    (cluster.folder / "other.py").write_text(OTHER_PROCESSOR)
    cluster.scheduler()
    cluster.worker("worker", SHARD_SECONDS="4")
    command = cluster.command()
    wait_for(cluster.published, seconds=100)
    cluster.worker("other", "--preload", "other.py")
    wait_for(lambda: "avx1024" in cluster.log("other"), seconds=60)
    cluster.worker("same", SHARD_SECONDS="0")
    assert command.wait(150) == 0, cluster.log("command")
    assert len({process for process, _ in cluster.published()}) == 2
    assert len(shards(data_folder)) == SHARDS + 1


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_commands_lock_is_refused(cluster, data_folder):
    cluster.scheduler()
    cluster.start("worker", "-c", WORKER_WITH_FREE_LOCKS, *cluster.worker_options())
    assert cluster.command().wait(60) == FAILED
    assert "does not share" in cluster.log("command")
    assert shards(data_folder) == {}


@pytest.mark.slow
def test_without_a_scheduler_a_worker_on_the_loopback_interface_is_started(cluster, data_folder):
    train = ("train", "head", *DATA, "--recipe", "ridge", "--layers", "block1_pool", "--precision", "float32")
    command = ("-m", "tasks.commands.main", *train, "--dask", "local")
    assert cluster.start("train", *command, SHARD_SECONDS="0").wait(90) == 0, cluster.log("train")
    assert len(cluster.published()) == SHARDS
    assert "Dask dashboard: http://127.0.0.1:" in cluster.log("train")


@pytest.mark.slow
def test_no_process_outlives_a_killed_command_with_its_own_cluster(cluster, data_folder, wait_for):
    command = cluster.start("command", *EXTRACT, "--dask", "local")
    wait_for(cluster.published, seconds=60)
    assert len(alive(data_folder)) > 2
    command.kill()
    command.wait()
    wait_for(lambda: not alive(data_folder), seconds=10)


@pytest.mark.slow
def test_without_dask_the_extra_is_named_in_a_line(cluster, data_folder):
    (cluster.folder / "sitecustomize.py").write_text(WITHOUT_DASK)
    paths = os.pathsep.join((str(cluster.folder), str(ROOT), str(HERE)))
    assert cluster.command(PYTHONPATH=paths).wait(60) == FAILED
    assert "--dask: Dask is not installed; get it with `pip install 'headstart[dask]'`" in cluster.log(
        "command"
    )
    assert "Traceback" not in cluster.log("command")


@pytest.mark.timeout(20)
def test_a_scheduler_that_cannot_be_reached_is_an_error_in_bounded_time(monkeypatch):
    cluster = pytest.importorskip("pipeline.features.cluster", reason="needs the extra dask")
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with (
        pytest.raises(
            HeadstartError, match=r"Dask scheduler tcp://127\.0\.0\.1:9: .*; finished shards are kept"
        ),
        cluster._connected("tcp://127.0.0.1:9"),
    ):
        pass


def test_without_file_locks_a_command_ends_with_a_line_and_publishes_nothing(
    headstart, data_folder, no_locks
):
    code, _, errors = headstart("embed", *DATA, "--out", "features.npy")
    assert code == FAILED
    assert re.search(
        r"^headstart: .* the file system does not lock files \(No locks available\)", errors, re.M
    )
    assert not list(data_folder.rglob("manifest.json"))
