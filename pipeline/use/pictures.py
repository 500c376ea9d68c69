"""Read picture files in parallel."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pipeline import machine
from pipeline.datasets.pictures import read_picture
from pipeline.errors import DamagedFile


def read_pictures(paths: list[str], size: int) -> list[np.ndarray | DamagedFile]:
    """Return pictures as (size, size, 3) uint8 RGB in order; for those that are unreadable, the error."""

    def read(path: str) -> np.ndarray | DamagedFile:
        try:
            return read_picture(Path(path), size)
        except DamagedFile as error:
            return error

    with ThreadPoolExecutor(machine.usable_cores()) as pool:
        return list(pool.map(read, paths))
