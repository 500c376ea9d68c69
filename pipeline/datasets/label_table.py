"""A table of pictures: a CSV or Parquet file with a picture in each row, or a NumPy file with arrays.

Its columns are path, relative to the table or absolute; label, a text as it stands; and, if wanted, split,
group and weight. Other columns are ignored. A table without labels is enough to predict and embed.
"""

import contextlib
import csv
import importlib.util
import math
from pathlib import Path

from pipeline.datasets.files import ARRAYS, SPLIT_NAMES, PictureFile, check_class_names
from pipeline.errors import BadInput
from pipeline.extensions import resolve
from pipeline.formatting import printable

COLUMNS = ("path", "label", "split", "group", "weight")


def table_files(path: Path) -> list[PictureFile]:
    """Return the pictures of the rows that have a label, each once, sorted: the key knows no order of rows.

    A row without a split gets that of its group, if others of the group have one. Raises BadInput for a table
    without labels, an unknown split, a group in several splits, or a weight that is no number of 0 or more.
    """
    rows, files = read_table(path), []
    split_of: dict[str, str] = {}  # by group
    if not any("label" in row for row in rows):
        raise BadInput(f"{path}: expected a column label, found {', '.join(rows[0]) if rows else 'no rows'}")
    for number, row in enumerate(rows, start=1):
        if (split := row.get("split", "")) and split.lower() not in SPLIT_NAMES:
            raise BadInput(f"{path}: row {number}: expected the split train, val or test, received {split!r}")
        row["split"] = SPLIT_NAMES[split.lower()] if split else ""
        group = row.setdefault("group", "")
        if group and split and split_of.setdefault(group, row["split"]) != row["split"]:
            raise BadInput(f"{path}: row {number}: expected group {group!r} in one split, found two")
    check_class_names(path, [row["label"] for row in rows])
    for number, row in enumerate(rows, start=1):
        weight = _weight(row.get("weight") or "1", f"{path}: row {number}")
        if row["label"]:
            split, name = row["split"] or split_of.get(row["group"], ""), printable(row["path"])
            place, place_row = (path, number) if path.suffix == ARRAYS else (path.parent / row["path"], 0)
            label = printable(row["label"])
            files.append(PictureFile(name, place, label, split, row["group"], weight, place_row))
    return sorted(set(files), key=lambda file: (file.row, file.entry))


def _weight(text: str, where: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise BadInput(f"{where}: expected a weight of 0 or more, received {text!r}")


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table as texts by column; a missing value is "".

    Raises BadInput if it cannot be read, has no column path, or no path in a row.
    """
    if path.suffix == ARRAYS:
        return resolve("pipeline.datasets.arrays:read_rows")(path)
    is_parquet = path.suffix == ".parquet"
    try:
        rows = _read_parquet(path) if is_parquet else _read_csv(path)
    except (ValueError, csv.Error, OSError) as error:  # pyarrow's errors are among them
        kind = "a Parquet file" if is_parquet else "a CSV file in UTF-8 with a header"
        raise BadInput(f"{path}: expected {kind} ({error})") from None
    for number, row in enumerate(rows, start=1):
        if not row.get("path"):
            raise BadInput(f"{path}: row {number}: expected a path in the column path, found none")
    return rows


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True, restkey="", restval="")
        rows = []
        for row in reader:
            if "" in row:
                raise BadInput(f"{path}: line {reader.line_num} has more values than the header")
            rows.append({name: value for name, value in row.items() if name in COLUMNS})
    return rows


def _read_parquet(path: Path) -> list[dict[str, str]]:
    if importlib.util.find_spec("pyarrow") is None:
        raise BadInput(f"{path}: pyarrow is not installed; get it with `pip install 'headstart[parquet]'`")
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    table = file.read([name for name in file.schema_arrow.names if name in COLUMNS])
    return [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in table.to_pylist()
    ]
