"""Train in a child process that SIGKILL may end at a chosen moment; run as a script, this is the child."""

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
from pipeline.runs import train
from pipeline.storage.layout import CHECKPOINT
from pipeline.training import loop


@dataclass(frozen=True)
class Kill:
    """When to send SIGKILL: at the count-th time of a moment.

    moment is "step" (an update; what is its epoch, such as "blocks, epoch 2/4"), "half" (half of the
    checkpoint's bytes are written), "before" or "after" (what is the file that is renamed to its final name).
    """

    moment: str
    what: str
    count: int = 1


def train_in_child(*trainings: dict, kill: Kill | None = None) -> list[str]:
    """Call train_run in a child with the arguments of some trainings; kill the last one if kill is set.

    Returns the epochs that the last one trained, none if it was killed.
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
    """Kills this process at a chosen moment."""

    def __init__(self, kill: Kill):
        self._kill, self._times = kill, 0

    def __call__(self, moment: str, what: str) -> None:
        self._times += (moment, what) == (self._kill.moment, self._kill.what)
        if self._times == self._kill.count:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)


class _WatchedFile(io.FileIO):
    """A file that calls a function once, when it reaches a size."""

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


def _install(trap: _Trap) -> None:
    """Call a trap before and after each rename to a final name, and for each half-written checkpoint."""
    savez, replace = np.savez, Path.replace

    def trapped_savez(path, **arrays) -> None:
        half = sum(array.nbytes for array in arrays.values()) // 2
        with _WatchedFile(path, half, lambda: trap("half", CHECKPOINT)) as file:
            savez(file, **arrays)

    def trapped_replace(path, target) -> Path:
        trap("before", target.name)
        result = replace(path, target)
        trap("after", target.name)
        return result

    np.savez, Path.replace = trapped_savez, trapped_replace
    loop.REPORT_SECONDS = 0.0  # one step per call of the graph


def _train(trainings: list[dict], kill: dict | None) -> list[str]:
    for arguments in trainings[:-1]:
        train.train_run(**arguments)
    trap, epochs = _Trap(Kill(**kill)) if kill else None, []

    def progress(stage: str, *_) -> None:
        if ", epoch " in stage and stage not in epochs:
            epochs.append(stage)
        if trap:
            trap("step", stage)

    if trap:
        _install(trap)
    train.train_run(**trainings[-1], progress=progress)
    return epochs


if __name__ == "__main__":
    print("\n" + json.dumps(_train(**json.load(sys.stdin))))
