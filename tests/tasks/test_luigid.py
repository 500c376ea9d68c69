"""Tasks use a central scheduler only if the command line names one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

LUIGI = ("-m", "luigi", "--module", "tasks", "DownloadWeights", "--weights", "random")
EXTRACT = ("-m", "luigi", "--module", "tasks", "ExtractFeatures")
EXTRACT += ("--dataset", "digits", "--weights", "random", "--layers", "block1_pool", "--precision", "float32")
WAITING = ("--worker-wait-interval", "0.5", "--worker-ping-interval", "0.5")
QUICKLY = (
    ("worker_disconnect_delay = 30", "worker_disconnect_delay = 3"),
    ("retry_delay = 5", "retry_delay = 1"),
)
SPLIT = ("--parts", "3")
LEFT_TO_OTHERS = 25
ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
TASKS = '/api/task_list?data={"status":"","upstream_status":""}'


@pytest.fixture
def luigid(tmp_path):
    """The URL of a luigid on a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = (ROOT / "luigid.cfg").read_text()
    for patient, quick in QUICKLY:
        assert patient in settings
        settings = settings.replace(patient, quick)
    (tmp_path / "luigid.cfg").write_text(settings)
    code = "from luigi.cmdline import luigid; luigid()"
    place = ("--address", "127.0.0.1", "--port", str(port), "--state-path", str(tmp_path / "state"))
    environment = {**os.environ, "LUIGI_CONFIG_PATH": str(tmp_path / "luigid.cfg")}
    command = [sys.executable, "-c", code, *place]
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url)
        yield url
    finally:
        server.kill()
        server.wait()


def test_a_named_luigid_schedules_the_task(call, luigid):
    done = call(*LUIGI, "--scheduler-url", luigid)
    assert done.returncode == 0, done.stderr
    assert [task["status"] for task in _tasks(luigid).values()] == ["DONE"]


def test_by_default_only_the_local_scheduler_is_used(call, luigid):
    done = call(*LUIGI)
    assert done.returncode == 0, done.stderr
    assert _tasks(luigid) == {}


@pytest.fixture
def worker(tmp_path, luigid):
    """Return a function that starts a worker in its own copy of the code; all share the data folder."""
    running = []

    def start(name: str, *arguments: str, **environment: str) -> subprocess.Popen:
        code = tmp_path / name
        for part in ("pipeline", "tasks"):
            shutil.copytree(ROOT / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "luigi.cfg", code)
        paths = os.pathsep.join((str(code), str(HERE)))
        more = {"PYTHONPATH": paths, "HEADSTART_EXTENSIONS": "small_shards", **environment}
        command = [sys.executable, *EXTRACT, *(arguments or ("--scheduler-url", luigid, *WAITING, *SPLIT))]
        with (tmp_path / f"{name}.log").open("w") as log:
            running.append(subprocess.Popen(command, cwd=code, env={**os.environ, **more}, stderr=log))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.slow  # seven processes load TensorFlow: half a minute on two cores
def test_workers_share_an_extraction_and_survive_the_loss_of_one(worker, tmp_path, data_folder, wait_for):
    log = tmp_path / "shards.log"
    log.touch()
    workers = [worker(f"worker{number}", SHARD_LOG=str(log)) for number in range(3)]
    wait_for(lambda: len({line.split()[0] for line in log.read_text().splitlines()}) == 3, seconds=60)
    workers[0].kill()
    workers[0] = worker("worker3", SHARD_LOG=str(log))
    codes = {process.wait(timeout=90) for process in workers}
    assert codes <= {0, LEFT_TO_OTHERS}, _logs(tmp_path)
    published = Counter(int(line.split()[1]) for line in log.read_text().splitlines())
    assert published == dict.fromkeys(range(29), 1)
    shared = _shards(data_folder)
    alone = str(tmp_path / "alone")
    one = worker("one", "--local-scheduler", HEADSTART_DATA_DIR=alone, SHARD_LOG=os.devnull)
    assert one.wait(timeout=90) == 0, _logs(tmp_path)
    assert len(shared) == 30
    assert _shards(Path(alone)) == shared


@pytest.mark.slow
def test_the_scheduler_receives_the_progress_of_a_task(tmp_path, data_folder, luigid, wait_for):
    endless = ("--dataset", "digits", "--subset", "200", "--epochs", "10000", "--filters", "4")
    command = (*LUIGI[:4], "TrainFromScratch", *endless, "--scheduler-url", luigid)
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def has_progress() -> bool:
        """Return whether the running task has a message with its stage and a percentage."""
        tasks = [task for task in _tasks(luigid).values() if task["status"] == "RUNNING"]
        states = [(task["status_message"] or "", task["progress_percentage"]) for task in tasks]
        return any("epoch" in text and " of " in text and share is not None for text, share in states)

    try:
        wait_for(has_progress, seconds=100)
    finally:
        process.terminate()
        process.wait()


def _shards(data: Path) -> dict[str, bytes]:
    """Return the bytes of all shards and manifests of features by path."""
    paths = [*(data / "features").rglob("shard-*.h5"), *(data / "features").rglob("manifest.json")]
    return {str(path.relative_to(data)): path.read_bytes() for path in paths}


def _logs(folder: Path) -> str:
    return "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))


def _wait_for(url: str) -> None:
    for _ in range(100):
        try:
            _tasks(url)
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"luigid did not respond at {url}")


def _tasks(url: str) -> dict:
    address = url + TASKS.replace('"', "%22").replace("{", "%7B").replace("}", "%7D")
    with urllib.request.urlopen(address, timeout=5) as response:
        return json.load(response)["response"]
