"""The state of a training after its last completed epoch, on disk, from which a killed training resumes.

One file, published whole: the variables of model, optimizer and averages, the stage and epoch, the history,
and the seconds so far. Row order and augmentation follow from the seed and the number of the epoch.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile

from pipeline.errors import DamagedFile
from pipeline.storage.layout import CHECKPOINT
from pipeline.storage.publishing import published
from pipeline.training.history import Clock, History

STATE = "state"

logger = logging.getLogger(__name__)


class Checkpoint:
    """The state of one training in one folder; clock counts the seconds of all its attempts."""

    def __init__(self, folder: Path, clock: Clock):
        self._path, self._clock = Path(folder) / CHECKPOINT, clock
        self._kept = self._read()
        if self._kept:
            clock.resume(self._kept[0]["seconds"], self._kept[0]["stages"])

    @property
    def stage(self) -> str | None:
        """The stage in which the training was broken off, None where there is nothing to go on from."""
        return self._kept[0]["stage"] if self._kept else None

    def restore(self, stage: str, variables: list[Any], history: History) -> int:
        """Put the kept state of a stage into variables and history; return how many epochs are done.

        Returns 0 where nothing of that stage is kept. Raises DamagedFile where it is of another network.
        """
        if self._kept is None or self.stage != stage:
            return 0
        state, arrays = self._kept
        expected = [tuple(variable.shape) for variable in variables]
        if [tuple(array.shape) for array in arrays] != expected:
            raise DamagedFile(
                f"{self._path}: expected the {len(expected)} variables of this network, found {len(arrays)} "
                "of another, kept by another version of the project; delete the file and run again"
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        history.rows[:] = state["history"]
        history.seconds = state["training_seconds"]
        logger.info("%s goes on behind epoch %d of the stage %s", self._path.parent, state["epoch"], stage)
        return state["epoch"]

    def keep(self, stage: str, epoch: int, variables: list[Any], history: History) -> None:
        """Publish the state after so many epochs of a stage in place of the one before."""
        state = {
            "stage": stage,
            "epoch": epoch,
            "history": history.rows,
            "training_seconds": history.seconds,
            "seconds": self._clock.total(),
            "stages": self._clock.so_far(),
            "variables": len(variables),
        }
        text = np.frombuffer(json.dumps(state).encode(), np.uint8)
        arrays: dict[str, Any] = {STATE: text}
        arrays |= {f"variable{number}": np.asarray(one) for number, one in enumerate(variables)}
        with published(self._path) as scratch:
            np.savez(scratch, **arrays)

    def remove(self) -> None:
        """Remove what is kept, when the run is finished."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[str, Any], list[Any]] | None:
        if not self._path.exists():
            return None
        try:
            with np.load(self._path, allow_pickle=False) as file:  # each member has a CRC
                _refuse_empty_claims(file, self._path.stat().st_size)
                state = json.loads(file[STATE].tobytes())
                arrays = [file[f"variable{number}"] for number in range(state["variables"])]
                return _sound(state), arrays
        except Exception as problem:  # a flipped bit can name another compression, a password, a version
            logger.warning("%s is damaged (%s); the training starts from its beginning", self._path, problem)
            self._path.unlink(missing_ok=True)
            return None


def _refuse_empty_claims(file: NpzFile, size: int) -> None:
    """Raise ValueError where an array claims more than a file of size bytes holds; NumPy makes room first."""
    archive = file.zip
    assert archive is not None  # until the file is closed
    for member in archive.infolist():
        with archive.open(member) as stream:
            version = npy.read_magic(stream)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = header(stream)
        if dtype.itemsize * math.prod(shape) > size:
            raise ValueError(f"{member.filename} claims an array of shape {shape} in {size} bytes")


def _sound(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state that has what a training goes on from; raise ValueError or KeyError otherwise."""
    kinds: dict[str, Any] = {"stage": str, "epoch": int, "history": list, "stages": dict}
    kinds |= dict.fromkeys(("training_seconds", "seconds"), (int, float))
    for name, kind in kinds.items():
        if not isinstance(state[name], kind):
            raise ValueError(f"expected {name} as {kind}, found {state[name]!r}")
    if not all(isinstance(seconds, (int, float)) for seconds in state["stages"].values()):
        raise ValueError(f"expected seconds by stage, found {state['stages']}")
    if not all(isinstance(row, dict) for row in state["history"]):
        raise ValueError("expected a history of rows with names")
    return state
