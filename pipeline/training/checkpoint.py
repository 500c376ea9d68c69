"""Checkpoints: the state of a training after its last completed epoch, from which a killed training resumes.

One file, replaced atomically: the variables of the model, optimizer and weight averages, the stage and epoch,
the history, and the seconds so far. The seed and the epoch number determine row order and augmentation.
"""

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

STATE_ARRAY = "state"

logger = logging.getLogger(__name__)


class Checkpoint:
    """The checkpoint of the training in a folder; clock counts the seconds of all its attempts."""

    def __init__(self, folder: Path, clock: Clock):
        self._path, self._clock = Path(folder) / CHECKPOINT, clock
        self._saved = self._read()
        if self._saved:
            clock.resume(self._saved[0]["seconds"], self._saved[0]["stages"])

    @property
    def stage(self) -> str | None:
        """The stage in which the training was interrupted, None without a checkpoint."""
        return self._saved[0]["stage"] if self._saved else None

    def restore(self, stage: str, variables: list[Any], history: History) -> int:
        """Load the saved state of a stage into variables and history; return how many epochs are completed.

        Returns 0 if the checkpoint has no state of that stage. Raises DamagedFile if it is another network's.
        """
        if self._saved is None or self.stage != stage:
            return 0
        state, arrays = self._saved
        expected = [tuple(variable.shape) for variable in variables]
        if [tuple(array.shape) for array in arrays] != expected:
            raise DamagedFile(
                f"{self._path}: expected the {len(expected)} variables of this network, found {len(arrays)} "
                "of another, saved by another version of the project; delete the file and run again"
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        history.rows[:] = state["history"]
        history.seconds = state["training_seconds"]
        logger.info("%s: resuming stage %s after epoch %d", self._path.parent, stage, state["epoch"])
        return state["epoch"]

    def save(self, stage: str, epoch: int, variables: list[Any], history: History) -> None:
        """Save the state after an epoch of a stage, in place of the previous checkpoint."""
        state = {
            "stage": stage,
            "epoch": epoch,
            "history": history.rows,
            "training_seconds": history.seconds,
            "seconds": self._clock.total(),
            "stages": self._clock.so_far(),
            "variables": len(variables),
        }
        arrays: dict[str, Any] = {STATE_ARRAY: np.frombuffer(json.dumps(state).encode(), np.uint8)}
        arrays |= {f"variable{number}": np.asarray(value) for number, value in enumerate(variables)}
        with published(self._path) as scratch:
            np.savez(scratch, **arrays)

    def remove(self) -> None:
        """Delete the checkpoint of a finished run."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> tuple[dict[str, Any], list[Any]] | None:
        if not self._path.exists():
            return None
        try:
            with np.load(self._path, allow_pickle=False) as file:  # each member has a CRC
                _check_array_sizes(file, self._path.stat().st_size)
                state = json.loads(file[STATE_ARRAY].tobytes())
                arrays = [file[f"variable{number}"] for number in range(state["variables"])]
                return _checked(state), arrays
        except Exception as error:  # a flipped bit can select another compression, a password or a version
            logger.warning("%s is damaged (%s); training restarts from the beginning", self._path, error)
            self._path.unlink(missing_ok=True)
            return None


def _check_array_sizes(file: NpzFile, size: int) -> None:
    """Raise ValueError for an array larger than the file's size bytes: NumPy allocates before it reads."""
    archive = file.zip
    assert archive is not None  # until the file is closed
    for member in archive.infolist():
        with archive.open(member) as stream:
            version = npy.read_magic(stream)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = header(stream)
        if dtype.itemsize * math.prod(shape) > size:
            raise ValueError(f"{member.filename} declares an array of shape {shape} in {size} bytes")


def _checked(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state after checking its fields; raise ValueError or KeyError if one is wrong."""
    number = (int, float)
    types: dict[str, Any] = {"stage": str, "epoch": int, "history": list, "stages": dict}
    types |= {"training_seconds": number, "seconds": number}
    valid = all(isinstance(state[name], expected) for name, expected in types.items())
    valid = valid and all(isinstance(seconds, number) for seconds in state["stages"].values())
    if not (valid and all(isinstance(row, dict) for row in state["history"])):
        raise ValueError("a field of its state has the wrong type")
    return state
