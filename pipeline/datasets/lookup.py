"""Data sets by name: rows of the table, and folders of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.datasets.folders import folder_dataset, folder_row
from pipeline.datasets.table import DATASETS, FOLDER, IMAGE_SIZE, Dataset
from pipeline.errors import BadInput, DamagedFile, unknown_name
from pipeline.formatting import pluralize


def find_dataset(name: str, index: Path | None = None) -> Dataset:
    """Return the row of a data set, or of `folder:PATH`; raise BadInput that lists what there is otherwise.

    index is a folder for what is known of the files of one's own folders.
    """
    if name.startswith(FOLDER):
        return folder_dataset(name, index)
    if name not in DATASETS:
        raise unknown_name("dataset", name, [*DATASETS, f"{FOLDER}PATH"])
    return DATASETS[name]


def stored_dataset(fingerprint: dict[str, Any], facts: dict[str, Any] | None = None) -> Dataset:
    """Return the row that a prepared data set was made by; facts are those of its manifest.

    Raises DamagedFile where they are not those of a prepared data set, and BadInput for a data set that is
    not known here.
    """
    name, source, files = (fingerprint.get(field) for field in ("name", "source", "files"))
    if isinstance(name, str) and not name.startswith(FOLDER):
        return find_dataset(name)
    if not (isinstance(name, str) and isinstance(source, str) and isinstance(files, int)):
        raise DamagedFile(f"expected the fingerprint of a prepared data set, found {str(fingerprint)[:200]}")
    left_out = (facts or {}).get("unreadable", 0)
    note = f"{pluralize(left_out, 'file')} left out" if left_out else ""
    return folder_row(name.removeprefix(FOLDER), source, files, note)


def dataset_fingerprint(
    name: str, *, subset: int, split_seed: int, index: Path | None = None
) -> dict[str, Any]:
    """Return what a prepared data set depends on; subset 0 means all images. Raises BadInput."""
    row = find_dataset(name, index)
    least = min(100, row.size)
    if subset and not least <= subset <= row.size:
        raise BadInput(
            f"subset of {name}: expected 0 (all images) or {least} to {row.size} images, received {subset}"
        )
    own = {"files": row.size, "fitting": row.fitting} if row.fitting else {}
    return {
        "name": row.name,
        "source": row.source,
        "image_size": IMAGE_SIZE,
        "subset": 0 if subset == row.size else subset,
        "split": {
            "seed": split_seed,
            "val_fraction": row.val_fraction,
            "test_fraction": row.test_fraction,
            "order": row.order,
        },
        **own,
    }
