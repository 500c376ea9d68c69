"""Train in a child that SIGKILL may end at a chosen moment; run as a script, this is that child."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.children import QUIET_TENSORFLOW
from pipeline.runs import train as record
from pipeline.storage.layout import CHECKPOINT
from pipeline.training import loop


@dataclass(frozen=True)
class Kill:
    """When SIGKILL comes: at the count-th time of a moment.

    moment is "step" (an update; what is its epoch, such as "blocks, epoch 2/4"), "half" (half of the bytes of
    what are written, which is the checkpoint), "before" or "behind" (what is the file that gets its name).
    """

    moment: str
    what: str
    count: int = 1


def train_in_child(*trainings: dict, kill: Kill | None = None) -> list[str]:
    """Call train_run in a child with the arguments of some trainings, of which the last is killed if told so.

    Returns the epochs that the last went through, none where it was killed.
    """
    child = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps({"trainings": trainings, "kill": asdict(kill) if kill else None}),
        capture_output=True,
        text=True,
        env={**os.environ, **QUIET_TENSORFLOW, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert child.returncode == (-signal.SIGKILL if kill else 0), child.stderr
    return [] if kill else json.loads(child.stdout.splitlines()[-1])


class _Trap:
    """Ends this process when a moment has come so many times."""

    def __init__(self, kill: Kill):
        self._kill, self._times = kill, 0

    def __call__(self, moment: str, what: str) -> None:
        self._times += (moment, what) == (self._kill.moment, self._kill.what)
        if self._times == self._kill.count:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)


class _WatchedFile(io.FileIO):
    """A file that calls a function once, when it has so many bytes."""

    def __init__(self, path: Path, size: int, call: Callable[[], None]):
        super().__init__(path, "w")
        self._size, self._call = size, call

    def write(self, data) -> int:
        data, room = memoryview(data).cast("B"), self._size - self.tell()
        if self._call is None or room > len(data):
            return super().write(data)
        written = super().write(data[:room])
        call, self._call = self._call, None
        call()
        return written + super().write(data[room:])


def _set(trap: _Trap) -> None:
    """Let a trap be told of each file that gets its name and of each checkpoint that is half written."""
    savez, replace = np.savez, Path.replace

    def savez_watched(path, **arrays) -> None:
        half = sum(array.nbytes for array in arrays.values()) // 2
        with _WatchedFile(path, half, lambda: trap("half", CHECKPOINT)) as file:
            savez(file, **arrays)

    def replace_watched(path, target) -> Path:
        trap("before", target.name)
        found = replace(path, target)
        trap("behind", target.name)
        return found

    np.savez, Path.replace = savez_watched, replace_watched
    loop.REPORT_SECONDS = 0.0  # one step a call into the graph


def _train(trainings: list[dict], kill: dict | None) -> list[str]:
    for arguments in trainings[:-1]:
        record.train_run(**arguments)
    trap, epochs = _Trap(Kill(**kill)) if kill else None, []

    def progress(stage: str, *_) -> None:
        if ", epoch " in stage and stage not in epochs:
            epochs.append(stage)
        if trap:
            trap("step", stage)

    if trap:
        _set(trap)
    record.train_run(**trainings[-1], progress=progress)
    return epochs


if __name__ == "__main__":
    print("\n" + json.dumps(_train(**json.load(sys.stdin))))
