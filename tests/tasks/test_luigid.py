"""The central scheduler is asked when the command line names one, and only then."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

LUIGI = ("-m", "luigi", "--module", "tasks", "DownloadWeights", "--weights", "random")
TASKS = '/api/task_list?data={"status":"","upstream_status":""}'


@pytest.fixture
def luigid(tmp_path):
    """A luigid on a free port of the loopback interface; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = "from luigi.cmdline import luigid; luigid()"
    place = ("--address", "127.0.0.1", "--port", str(port), "--state-path", str(tmp_path / "state"))
    server = subprocess.Popen([sys.executable, "-c", code, *place], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url)
        yield url
    finally:
        server.kill()
        server.wait()


def test_a_luigid_that_is_named_knows_the_task_that_was_done(call, luigid):
    done = call(*LUIGI, "--scheduler-url", luigid)
    assert done.returncode == 0, done.stderr
    assert [task["status"] for task in _tasks(luigid).values()] == ["DONE"]


def test_without_a_name_the_local_scheduler_works_alone(call, luigid):
    done = call(*LUIGI)
    assert done.returncode == 0, done.stderr
    assert _tasks(luigid) == {}


def _wait_for(url: str) -> None:
    for _ in range(100):
        try:
            _tasks(url)
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"luigid did not answer at {url}")


def _tasks(url: str) -> dict:
    address = url + TASKS.replace('"', "%22").replace("{", "%7B").replace("}", "%7D")
    with urllib.request.urlopen(address, timeout=5) as answer:
        return json.load(answer)["response"]
