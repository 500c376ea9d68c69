"""The stored results of a run, read back and checked: recipe, history, predictions, costs.

Everything in pipeline.results starts from these files. Nothing here trains or loads the model.
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from pipeline.datasets.table import SPLITS, TRAIN
from pipeline.errors import BadInput, DamagedFile, unknown_name
from pipeline.formatting import describe_data, describe_sizes
from pipeline.storage import hdf5
from pipeline.storage.fingerprint import key_of
from pipeline.storage.layout import COSTS, RECIPE
from pipeline.storage.publishing import published, read_manifest

HISTORY = "history.csv"
PREDICTIONS = "predictions.h5"

EVALUATED = {name: code for name, code in SPLITS.items() if code != TRAIN}  # as stored in predictions.h5
CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate")
HISTORY_COLUMNS = ("stage", "epoch", *CURVES, "seconds")
FIELD_TYPES: dict[str, Callable[[Any], bool]] = {  # values of a JSON field: description and check
    "text": lambda value: isinstance(value, str),
    "a count": lambda value: isinstance(value, int) and value >= 0,
    "a number of at least 0": lambda value: (
        isinstance(value, int | float) and math.isfinite(value) and value >= 0
    ),
    "a list of names": lambda value: (
        isinstance(value, list) and value != [] and all(isinstance(name, str) for name in value)
    ),
}
SIZES = ("image_size", "input_size")
COUNTS = ("seed", "n_train", "n_val", "n_test", "epochs", "parameters", "trainable_parameters", *SIZES)
LABELED = ("scheme", "weights", "input_size")  # runs that agree in these are seeds of one scheme
RECIPE_FIELDS = {
    **dict.fromkeys(("scheme", "dataset", "dataset_title", "weights", "precision"), "text"),
    **dict.fromkeys(COUNTS, "a count"),
    "class_names": "a list of names",
}
COST_FIELDS = dict.fromkeys(
    ("train_seconds", "extract_seconds", "total_seconds", "peak_memory_mb"), "a number of at least 0"
)
PREDICTION_DTYPES: dict[str, Any] = {
    **{"index": np.int64, "names": object, "labels": np.int64, "split": np.uint8},
    "probabilities": np.float32,
}
PREDICTION_KINDS = {"index": "iu", "names": "S", "labels": "iu", "split": "iu", "probabilities": "f"}
SUM_TOLERANCE = 1e-3  # a float32 softmax sums to 1 within 1e-6; beyond 1e-3 it is not a distribution


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of a run on one split, one row per image, in the order of the file.

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
    """The verified contents of a run folder: recipe, history (one row per epoch), costs, predictions."""

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
    """Return the stored results in folder; raise DamagedFile with the name of a damaged or missing file."""
    manifest = read_manifest(folder)
    recipe = _read_object(path := manifest.verified(RECIPE), RECIPE_FIELDS)
    repeated = [name for name, times in Counter(recipe["class_names"]).items() if times > 1]
    _expect(path, not repeated, "unique class_names", f"{repeated} more than once")
    costs = _read_object(manifest.verified(COSTS), COST_FIELDS)
    history = _read_history(manifest.verified(HISTORY))
    predictions = _read_predictions(manifest.verified(PREDICTIONS), recipe)
    return RunResult(Path(folder), recipe, history, costs, predictions)


def write_predictions(path: Path, **columns: Any) -> None:
    """Publish predictions as HDF5; the same arrays give the same bytes.

    columns are index, labels and split, (N,) integers, names, N strings, and probabilities (N, C), finite;
    split holds 1 for val and 2 for test, and each row of probabilities sums to 1 within 1e-3. Raises BadInput
    for anything else.
    """
    arrays = {name: np.asarray(columns[name], dtype) for name, dtype in PREDICTION_DTYPES.items()}
    if problem := _shape_problem(arrays) or _value_problem(arrays):
        raise BadInput(f"{path}: {problem}; nothing was written")
    with published(path) as scratch, hdf5.created(scratch) as file:
        hdf5.write_texts(file, "names", [str(name) for name in arrays.pop("names")])
        for name, array in arrays.items():
            hdf5.write_array(file, name, array)


def label(run: RunResult) -> str:
    """Return the run's short name in tables and plots, e.g. "head:linear · imagenet · 96 px"."""
    return label_of(*(run.recipe[name] for name in LABELED))


def label_of(scheme: str, weights: str, input_size: int) -> str:
    """Return "scheme · weights · input size"; weights are left out if there are none ("none")."""
    return " · ".join([scheme, *([] if weights == "none" else [weights]), f"{input_size} px"])


# Fields of a recipe that, beside the settings, can tell runs of one scheme apart, with their units.
DISTINCT_FIELDS = {"n_train": " images", "image_size": " px images", "precision": "", "backbone": ""}


def differing_settings(
    runs: Sequence[RunResult], extra: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Return for each run the settings in which runs of its scheme, weights and data set differ, as text.

    extra are further fields of the recipe to compare, with their units.
    """
    texts, shared = [], ("scheme", "weights", "dataset_title")
    facts = [_facts(run.recipe, {**DISTINCT_FIELDS, **extra}) for run in runs]
    for run, own in zip(runs, facts, strict=True):
        alike = [all(one.recipe[name] == run.recipe[name] for name in shared) for one in runs]
        group = list(itertools.compress(facts, alike))
        names = dict.fromkeys(name for one in (own, *group) for name in one)
        differing = [name for name in names if any(one.get(name) != own.get(name) for one in group)]
        texts.append(", ".join(own.get(name, f"{name} default") for name in differing))
    return texts


def _facts(recipe: dict[str, Any], fields: Mapping[str, str]) -> dict[str, str]:
    """Return what can tell runs of one scheme apart, as texts by name; fields of the recipe have units."""
    base, features, sweep = (recipe["fingerprint"].get(name, {}) for name in ("dataset", "features", "sweep"))
    key = {"split seed": base.get("split", {}).get("seed"), "engine": features.get("engine", "tensorflow")}
    key |= {"storage": features.get("storage"), "space": key_of(sweep.get("space"))[:6]}
    return {
        **{name: f"{name} {_short(value)}" for name, value in sorted(recipe["settings"].items())},
        **{name: f"{recipe[name]}{unit}" for name, unit in fields.items()},
        **{name: f"{name} {value}" for name, value in key.items()},
    }


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def family_of(scheme: str) -> str:
    """Return the part of a scheme's name before the colon, e.g. "head" for "head:linear"."""
    return scheme.partition(":")[0]


def needs_weights(recipe: dict[str, Any]) -> bool:
    """Return whether the standalone model of a run, given its recipe.json, needs backbone weights."""
    return family_of(recipe["scheme"]) in ("head", "tuned-head")


def data_of(recipe: dict[str, Any]) -> str:
    """Return a description of the data set with its split sizes, marked if it is a demonstration."""
    counts = {split: recipe[f"n_{split}"] for split in SPLITS}
    return describe_data(recipe["dataset_title"], recipe.get("dataset_note", ""), counts)


def caption(*runs: RunResult) -> str:
    """Return the caption of runs of one data set: data, weights, sizes, precisions, seeds, each once."""
    weights, image_sizes, sizes, precisions, seeds = (
        ", ".join(dict.fromkeys(str(run.recipe.get(name, "–")) for run in runs))
        for name in ("weights", "image_size", "input_size", "precision", "seed")
    )
    pixels = describe_sizes({"image_size": image_sizes, "input_size": sizes})
    data = dict.fromkeys(data_of(run.recipe) for run in runs)  # runs that are fitted on val have other counts
    parts = [*data, f"weights {weights}", pixels, precisions]
    return " · ".join([*parts, f"seed{'s' * (',' in seeds)} {seeds}"])


def _read_object(path: Path, fields: dict[str, str]) -> dict[str, Any]:
    """Return a JSON object; raise DamagedFile if a field has the wrong type."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "JSON", repr(error)) from error
    _expect(path, isinstance(content, dict), "a JSON object", type(content).__name__)
    for name, kind in fields.items():
        value = content.get(name)
        _expect(path, FIELD_TYPES[kind](value), f"{name} to be {kind}", value)
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
        _expect(path, numeric, f"{name} to be numbers", f"{history[name].dtype} values")
    _expect(path, bool(history["stage"].notna().all()), "a stage in every row", "rows without one")
    increasing = history["epoch"].notna().all() and history["epoch"].is_monotonic_increasing
    _expect(path, bool(increasing), "increasing epochs", history["epoch"].tolist()[:10])
    return history


def _read_predictions(path: Path, recipe: dict[str, Any]) -> dict[str, Predictions]:
    """Return the predictions by split; check sizes against the recipe before reading values."""
    rows, classes = recipe["n_val"] + recipe["n_test"], tuple(recipe["class_names"])
    with hdf5.opened(path) as file:
        for name, kinds in PREDICTION_KINDS.items():
            shape = (rows, len(classes)) if name == "probabilities" else (rows,)
            actual = hdf5.find_dataset(file, name, kinds=kinds).shape
            _expect(path, actual == shape, f"{name} of shape {shape}", actual)
        arrays = {name: file[name][:] for name in PREDICTION_KINDS if name != "names"}
        arrays["names"] = np.array(hdf5.read_texts(file, "names"), dtype=object)
    if problem := _value_problem(arrays):
        raise DamagedFile(f"{path}: {problem}; delete its folder and run again")
    columns = {name: array.astype(PREDICTION_DTYPES[name]) for name, array in arrays.items()}
    codes, predictions = columns.pop("split"), {}
    for split, code in EVALUATED.items():
        chosen, expected = codes == code, recipe[f"n_{split}"]
        _expect(path, chosen.sum() == expected, f"{expected} rows of {split}", int(chosen.sum()))
        values = {name: column[chosen] for name, column in columns.items()}
        predictions[split] = Predictions(**values, class_names=classes)
    return predictions


def _shape_problem(arrays: dict[str, np.ndarray]) -> str | None:
    rows, classes = arrays["probabilities"].shape if arrays["probabilities"].ndim == 2 else (0, 0)
    columns = [array for name, array in arrays.items() if name != "probabilities"]
    if rows and classes and all(column.shape == (rows,) for column in columns):
        return None
    shapes = {name: array.shape for name, array in arrays.items()}
    return f"expected one-dimensional arrays of one length and probabilities of shape (N, C), found {shapes}"


def _value_problem(arrays: dict[str, np.ndarray]) -> str | None:
    """Return a description of the first invalid value, or None."""
    probabilities, labels = arrays["probabilities"], arrays["labels"]
    classes = probabilities.shape[1]
    if not np.isfinite(probabilities).all():
        return f"expected finite probabilities, found {int((~np.isfinite(probabilities)).sum())} that are not"
    if probabilities.min(initial=0) < 0:
        return f"expected probabilities of at least 0, found {probabilities.min()}"
    worst = np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1).max(initial=0)
    if worst > SUM_TOLERANCE:
        return f"expected rows that sum to 1 within {SUM_TOLERANCE}, found one off by {worst:.4g}"
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        return f"expected labels in 0..{classes - 1}, found {labels.min()}..{labels.max()}"
    unknown = sorted(set(np.unique(arrays["split"]).tolist()) - set(EVALUATED.values()))
    if unknown:
        return f"expected split codes 1 (val) and 2 (test), found {unknown}"
    return None


def _expect(path: Path, condition: bool, expected: str, actual: object) -> None:
    if not condition:
        raise _damaged(path, expected, actual)


def _damaged(path: Path, expected: str, actual: object) -> DamagedFile:
    return DamagedFile(f"{path}: expected {expected}, found {actual}; delete its folder and run again")
