"""Fault-injection fixtures for all test folders; shared examples are in small_examples."""

from __future__ import annotations

import errno
import fcntl
import functools
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytest_plugins = ["small_examples", "small_runs"]


@pytest.fixture
def served(tmp_path):
    """A folder whose files are served on the loopback interface; returns the folder and its URL."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def flip_byte() -> Callable[..., None]:
    """Return a function that flips one bit of a file, by default in the middle."""

    def flip(path: Path, position: int | None = None, mask: int = 1) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2 if position is None else position] ^= mask
        path.write_bytes(content)

    return flip


@pytest.fixture
def no_locks(monkeypatch) -> None:
    """Let file locks fail in this process as on a file system that has none."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def start_script() -> Iterator[Callable[..., subprocess.Popen]]:
    """Return a function that starts Python code in a new process, which is killed after the test."""
    running = []

    def start(code: str, *arguments: object) -> subprocess.Popen:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        running.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """Return a function that waits until a condition holds, and fails after a timeout."""

    def wait(condition: Callable[[], object], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"did not happen within {seconds} s"
            time.sleep(0.01)

    return wait
