"""What a run stored, read back and checked: recipe, history, predictions, costs.

Everything under pipeline.results starts from these files. Nothing here trains, and nothing opens the model.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from pipeline.datasets.table import SPLITS, TRAIN
from pipeline.errors import BadInput, DamagedFile, unknown_name
from pipeline.formatting import describe_data
from pipeline.storage import hdf5
from pipeline.storage.layout import COSTS, RECIPE
from pipeline.storage.publishing import published, read_manifest

HISTORY = "history.csv"
PREDICTIONS = "predictions.h5"

EVALUATED = {name: code for name, code in SPLITS.items() if code != TRAIN}  # as stored in predictions.h5
CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate")
HISTORY_COLUMNS = ("stage", "epoch", *CURVES, "seconds")
VALUES: dict[str, Callable[[Any], bool]] = {  # what a field of JSON may hold, in words and as a test
    "text": lambda value: isinstance(value, str),
    "a count": lambda value: isinstance(value, int) and value >= 0,
    "a number of at least 0": lambda value: (
        isinstance(value, int | float) and math.isfinite(value) and value >= 0
    ),
    "a list of names": lambda value: (
        isinstance(value, list) and value != [] and all(isinstance(name, str) for name in value)
    ),
}
COUNTS = ("seed", "n_train", "n_val", "n_test", "epochs", "parameters", "trainable_parameters")
RECIPE_FIELDS = {
    **dict.fromkeys(("scheme", "dataset", "dataset_title", "weights", "precision"), "text"),
    **dict.fromkeys(COUNTS, "a count"),
    "class_names": "a list of names",
}
COST_FIELDS = dict.fromkeys(
    ("train_seconds", "extract_seconds", "total_seconds", "peak_memory_mb"), "a number of at least 0"
)
PREDICTION_KINDS = {"index": "iu", "names": "S", "labels": "iu", "split": "iu", "probabilities": "f"}
SUM_TOLERANCE = 1e-3  # a float32 softmax sums to 1 within 1e-6; anything beyond 1e-3 is no distribution


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run predicted on one split, a row an image, in the order of the file.

    index is (N,) int64 and names (N,) str: the image's identity in the data set. labels is (N,) int64 in
    0..C-1. probabilities is (N, C) float32 and each row sums to 1 within 1e-3. class_names has C entries.
    """

    index: np.ndarray
    names: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class RunResult:
    """A run folder's content, verified: recipe and costs as dicts, history a row an epoch, predictions."""

    folder: Path
    recipe: dict[str, Any]
    history: pd.DataFrame
    costs: dict[str, Any]
    predictions: dict[str, Predictions]

    def split(self, name: str) -> Predictions:
        """Return the predictions on "val" or "test"; val may be empty. Raises BadInput for another name."""
        if name not in self.predictions:
            raise unknown_name("split", name, self.predictions)
        return self.predictions[name]


def read_run(folder: Path) -> RunResult:
    """Return the stored results in folder; raise DamagedFile that says which file is not as it should be."""
    manifest = read_manifest(folder)
    recipe = _read_object(path := manifest.verified(RECIPE), RECIPE_FIELDS)
    repeated = [name for name, times in Counter(recipe["class_names"]).items() if times > 1]
    _expect(path, not repeated, "class_names that differ", f"{repeated} more than once")
    costs = _read_object(manifest.verified(COSTS), COST_FIELDS)
    history = _read_history(manifest.verified(HISTORY))
    predictions = _read_predictions(manifest.verified(PREDICTIONS), recipe)
    return RunResult(Path(folder), recipe, history, costs, predictions)


def write_predictions(
    path: Path,
    index: np.ndarray,
    names: np.ndarray | list[str],
    labels: np.ndarray,
    split: np.ndarray,
    probabilities: np.ndarray,
) -> None:
    """Publish predictions as HDF5; the same arrays give the same bytes.

    index, labels and split are (N,) integers, names N strings, split holds 1 for val and 2 for test,
    probabilities is (N, C), finite, each row sums to 1 within 1e-3. Raises BadInput for anything else.
    """
    arrays = {
        "index": np.asarray(index, dtype=np.int64),
        "names": np.asarray(names, dtype=object),
        "labels": np.asarray(labels, dtype=np.int64),
        "split": np.asarray(split, dtype=np.uint8),
        "probabilities": np.asarray(probabilities, dtype=np.float32),
    }
    if fault := _shape_fault(arrays) or _content_fault(arrays):
        raise BadInput(f"{path}: {fault}; nothing was written")
    with published(path) as scratch, hdf5.created(scratch) as file:
        hdf5.write_texts(file, "names", [str(name) for name in arrays.pop("names")])
        for name, array in arrays.items():
            hdf5.write_array(file, name, array)


def label(run: RunResult) -> str:
    """Return the run's short name in tables and plots, e.g. "head:linear · hed"."""
    return label_of(run.recipe["scheme"], run.recipe["weights"])


def label_of(scheme: str, weights: str) -> str:
    """Return "scheme · weights", or the scheme alone where it starts from no weights ("none")."""
    return scheme if weights == "none" else f"{scheme} · {weights}"


def family_of(scheme: str) -> str:
    """Return the part of a scheme's name before the colon, e.g. "head" for "head:linear"."""
    return scheme.partition(":")[0]


def data_of(recipe: dict[str, Any]) -> str:
    """Return the data set in words with the sizes of its splits; a demonstration says that it is one."""
    counts = {split: recipe[f"n_{split}"] for split in SPLITS}
    return describe_data(recipe["dataset_title"], recipe.get("dataset_note", ""), counts)


def caption(run: RunResult) -> str:
    """Return the line under every figure of a run: data set, sizes, weights, precision, seed."""
    recipe = run.recipe
    return f"{data_of(recipe)} · weights {recipe['weights']} · {recipe['precision']} · seed {recipe['seed']}"


def _read_object(path: Path, fields: dict[str, str]) -> dict[str, Any]:
    """Return a JSON object; refuse it where a value is not what its field holds."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "JSON", repr(error)) from error
    _expect(path, isinstance(content, dict), "a JSON object", type(content).__name__)
    for name, words in fields.items():
        value = content.get(name)
        _expect(path, VALUES[words](value), f"{words} as {name}", value)
    return content


def _read_history(path: Path) -> pd.DataFrame:
    try:
        history = pd.read_csv(path, dtype={"stage": str})
    except ValueError as error:  # pandas' parsing errors and bad UTF-8 are both ValueErrors
        raise _damaged(path, "a CSV table", repr(error)) from error
    missing = [name for name in HISTORY_COLUMNS if name not in history.columns]
    _expect(path, not missing, f"columns {', '.join(HISTORY_COLUMNS)}", f"no {missing}")
    for name in HISTORY_COLUMNS[1:]:
        numeric = history.empty or pd.api.types.is_numeric_dtype(history[name])
        _expect(path, numeric, f"numbers as {name}", f"{history[name].dtype} values")
    _expect(path, bool(history["stage"].notna().all()), "a stage in every row", "rows without one")
    rising = history["epoch"].notna().all() and history["epoch"].is_monotonic_increasing
    _expect(path, bool(rising), "epochs that rise", history["epoch"].tolist()[:10])
    return history


def _read_predictions(path: Path, recipe: dict[str, Any]) -> dict[str, Predictions]:
    """Return the predictions by split; sizes are checked against the recipe before a value is read."""
    rows, classes = recipe["n_val"] + recipe["n_test"], tuple(recipe["class_names"])
    with hdf5.opened(path) as file:
        for name, kinds in PREDICTION_KINDS.items():
            shape = (rows, len(classes)) if name == "probabilities" else (rows,)
            dataset = file.get(name)
            _expect(path, isinstance(dataset, h5py.Dataset), f"a dataset {name}", "none")
            _expect(path, dataset.shape == shape, f"{name} of shape {shape}", dataset.shape)
            sound = dataset.dtype.kind in kinds
            _expect(path, sound, f"{name} of type {' or '.join(kinds)}", dataset.dtype)
        arrays = {name: file[name][:] for name in PREDICTION_KINDS}
    if fault := _content_fault(arrays):
        raise DamagedFile(f"{path}: {fault}; delete its folder and run again")
    try:
        names = np.array([name.decode() for name in arrays["names"]], dtype=object)
    except UnicodeDecodeError as error:
        raise _damaged(path, "names in UTF-8", repr(error)) from error
    found = {}
    for split, code in EVALUATED.items():
        chosen, expected = arrays["split"] == code, recipe[f"n_{split}"]
        _expect(path, chosen.sum() == expected, f"{expected} rows of {split}", int(chosen.sum()))
        found[split] = Predictions(
            index=arrays["index"][chosen].astype(np.int64),
            names=names[chosen],
            labels=arrays["labels"][chosen].astype(np.int64),
            probabilities=arrays["probabilities"][chosen].astype(np.float32),
            class_names=classes,
        )
    return found


def _shape_fault(arrays: dict[str, np.ndarray]) -> str | None:
    rows, classes = arrays["probabilities"].shape if arrays["probabilities"].ndim == 2 else (0, 0)
    columns = [array for name, array in arrays.items() if name != "probabilities"]
    if rows and classes and all(column.shape == (rows,) for column in columns):
        return None
    shapes = {name: array.shape for name, array in arrays.items()}
    return f"expected one-dimensional arrays of one length and probabilities of shape (N, C), found {shapes}"


def _content_fault(arrays: dict[str, np.ndarray]) -> str | None:
    """Return in words the first value that makes no sense, or None."""
    probabilities, labels = arrays["probabilities"], arrays["labels"]
    classes = probabilities.shape[1]
    if not np.isfinite(probabilities).all():
        return f"expected finite probabilities, found {int((~np.isfinite(probabilities)).sum())} that are not"
    if probabilities.min(initial=0) < 0:
        return f"expected probabilities of at least 0, found {probabilities.min()}"
    worst = np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1).max(initial=0)
    if worst > SUM_TOLERANCE:
        return f"expected rows that sum to 1 within {SUM_TOLERANCE}, found one that is {worst:.4g} off"
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        return f"expected labels in 0..{classes - 1}, found {labels.min()}..{labels.max()}"
    strangers = sorted(set(np.unique(arrays["split"]).tolist()) - set(EVALUATED.values()))
    if strangers:
        return f"expected split codes 1 (val) and 2 (test), found {strangers}"
    return None


def _expect(path: Path, holds: bool, expected: str, found: object) -> None:
    if not holds:
        raise _damaged(path, expected, found)


def _damaged(path: Path, expected: str, found: object) -> DamagedFile:
    return DamagedFile(f"{path}: expected {expected}, found {found}; delete its folder and run again")
