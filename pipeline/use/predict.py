"""Answers of a finished run for picture files: class, probability, and the classes that come next."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import machine
from pipeline.datasets.folders import pictures_below
from pipeline.datasets.pictures import read_picture
from pipeline.datasets.table import IMAGE_SIZE
from pipeline.errors import BadInput, DamagedFile
from pipeline.progress import Progress, silent
from pipeline.runs.result import read_run
from pipeline.use.network import whole_network

BATCH = 256
SHOWN = 3  # classes that are named for each picture


def find_pictures(places: Sequence[str]) -> list[str]:
    """Return the paths of the pictures that places name, those in folders included; raise BadInput for none.

    A file that is named itself is taken whatever its name ends in.
    """
    found: list[str] = []
    for place in map(Path, places):
        if place.is_dir():
            found += map(str, pictures_below(place))
        elif place.is_file():
            found.append(str(place))
        else:
            raise BadInput(f"{place}: expected a picture or a folder, found neither")
    if not found:
        raise BadInput(f"{', '.join(places)}: expected pictures (PNG, JPEG, WebP, BMP, GIF), found none")
    return list(dict.fromkeys(found))


def predict(run: str, weights: str | None, paths: list[str], progress: Progress = silent) -> dict[str, Any]:
    """Return {"rows", "unreadable"}: what the run in a folder answers for picture files.

    rows has a dict for each readable picture, in order: path, class, probability, and top, a list of the
    classes with the highest probabilities as [class, probability]. unreadable has [path, why] of the rest.
    """
    result = read_run(Path(run))
    names = result.recipe["class_names"]
    network = whole_network(result, Path(weights) if weights else None)
    rows: list[dict[str, Any]] = []
    unreadable: list[list[str]] = []
    with ThreadPoolExecutor(machine.usable_cores()) as pool:
        for start in range(0, len(paths), BATCH):
            some = paths[start : start + BATCH]
            found = list(zip(some, pool.map(_read, some), strict=True))
            unreadable += [[path, str(one)] for path, one in found if isinstance(one, DamagedFile)]
            good = [(path, one) for path, one in found if not isinstance(one, DamagedFile)]
            if good:
                pixels = np.zeros((BATCH, *good[0][1].shape), np.uint8)  # filled up: one graph serves all
                pixels[: len(good)] = [one for _, one in good]
                answers = zip(good, network.predict_on_batch(pixels), strict=False)
                rows += [_row(path, probabilities, names) for (path, _), probabilities in answers]
            progress("predict", len(rows) + len(unreadable), len(paths), "images")
    return {"rows": rows, "unreadable": unreadable}


def _read(path: str) -> np.ndarray | DamagedFile:
    try:
        return read_picture(Path(path), IMAGE_SIZE)
    except DamagedFile as error:
        return error


def _row(path: str, probabilities: np.ndarray, names: list[str]) -> dict[str, Any]:
    order = np.argsort(-probabilities, kind="stable")[:SHOWN]
    top = [[names[place], round(float(probabilities[place]), 6)] for place in order]
    return {"path": path, "class": top[0][0], "probability": top[0][1], "top": top}
