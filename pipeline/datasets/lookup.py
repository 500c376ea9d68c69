"""Data sets by name: rows of the table, and folders of pictures."""

from pathlib import Path
from typing import Any

from pipeline.datasets.folders import LAYOUTS, folder_dataset, folder_row
from pipeline.datasets.table import DATASETS, LARGEST_IMAGE, PICTURES, SMALLEST_IMAGE, Dataset
from pipeline.errors import BadInput, DamagedFile, unknown_name


def find_dataset(name: str, index: Path | None = None, layout: str = "auto") -> Dataset:
    """Return the row of a named data set or of `folder:PATH`; BadInput for an unknown name lists them all.

    index is the folder that caches the digests of picture files, layout one of folders.LAYOUTS.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    if name.startswith(PICTURES):
        return folder_dataset(name, index, layout)
    if name not in DATASETS:
        raise unknown_name("dataset", name, [*DATASETS, *(f"{kind}PATH" for kind in PICTURES)])
    return DATASETS[name]


def stored_dataset(fingerprint: dict[str, Any], facts: dict[str, Any] | None = None) -> Dataset:
    """Return the row of a prepared data set from the fingerprint and facts of its manifest.

    Raises DamagedFile if the fingerprint is not that of a prepared data set, and BadInput for an unknown
    data set.
    """
    name, source, files = (fingerprint.get(field) for field in ("name", "source", "files"))
    if isinstance(name, str) and not name.startswith(PICTURES):
        return find_dataset(name)
    if not (isinstance(name, str) and isinstance(source, str) and isinstance(files, int)):
        raise DamagedFile(f"expected the fingerprint of a prepared data set, found {str(fingerprint)[:200]}")
    return folder_row(name, source, files, str((facts or {}).get("note", "")))


def dataset_fingerprint(
    name: str,
    *,
    subset: int,
    split_seed: int,
    image_size: int | None = None,
    index: Path | None = None,
    layout: str = "auto",
) -> dict[str, Any]:
    """Return the fingerprint of a prepared data set; subset 0 means all images. Raises BadInput.

    image_size is in pixels per side; None is the data set's own size, or a folder's default.
    """
    row = find_dataset(name, index, layout)
    size = row.image_size if image_size is None else image_size
    smallest, largest = (SMALLEST_IMAGE, LARGEST_IMAGE) if row.fitting else (row.image_size, row.image_size)
    if not smallest <= size <= largest:
        expected = f"{smallest} to {largest} pixels" if row.fitting else f"{smallest} pixels, as they are"
        raise BadInput(f"image size of {name}: expected {expected}, received {size}")
    minimum = min(100, row.size)
    if subset and not minimum <= subset <= row.size:
        raise BadInput(
            f"subset of {name}: expected 0 (all images) or {minimum} to {row.size} images, received {subset}"
        )
    return {
        "name": row.name,
        "source": row.source,
        "image_size": size,
        "subset": 0 if subset == row.size else subset,
        "split": {
            "seed": split_seed if subset or row.order != "source" else 0,  # a fixed split has none
            "val_fraction": row.val_fraction,
            "test_fraction": row.test_fraction,
            "order": row.order,
        },
        **({"files": row.size, "fitting": row.fitting} if row.fitting else {}),
        **({"layout": layout} if row.fitting and layout != "auto" else {}),
    }
