"""Export a finished run as a standalone model that takes raw pixels, with class names and a model card.

An export is published only if the model, loaded from disk by a process that cannot import this project,
reproduces the run's stored probabilities on the test images, within the rounding error of the precision in
which they were computed. Several formats are published together or not at all.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline.backbones.table import named_weights
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import DATASETS
from pipeline.errors import BadInput, DamagedFile, HeadstartError, unknown_name
from pipeline.formatting import format_duration, markdown_table
from pipeline.progress import Progress, silent
from pipeline.results.scores import score
from pipeline.runs.result import RunResult, data_of, read_run
from pipeline.storage.publishing import check_publishable, published
from pipeline.training.classifier import evaluation_batch
from pipeline.use import without_project
from pipeline.use.network import for_any_size, nan_unless_pixels, standalone_model, with_matrix_resizing

MIN_CHECKED = 500  # images, if val and test have as many
# Maximum mean distance of probabilities (half the sum of absolute differences), and minimum share of images
# with the same predicted class. bfloat16 has 8 significant bits; an export computes in float32.
BOUNDS = {"float32": (1e-3, 0.995), "bfloat16": (0.03, 0.97)}
NAMES_FILE, CARD_FILE = "class_names.json", "card.md"


def export(
    run: str, weights: str | None, dataset: str, out: str, formats: list[str], progress: Progress = silent
) -> dict[str, Any]:
    """Write the standalone model of a run to out in each of formats; return {"files", "parity"}.

    out is the path of the .keras file, which contains class names and a model card. The other formats and
    copies of both texts are written next to it. Raises DamagedFile if an export does not reproduce the run's
    predictions on its test and val images; then nothing is published.
    """
    check_target(out, formats)
    finished_run, target, images = read_run(Path(run)), Path(out).absolute(), ImageStore(dataset)
    model = standalone_model(finished_run, Path(weights) if weights else None)
    rows, stored = stored_predictions(finished_run, images)
    names = json.dumps(finished_run.recipe["class_names"], indent=2) + "\n"
    parities: dict[str, str] = {}
    files = [target.with_suffix(f".{kind}") for kind in formats]
    with contextlib.ExitStack() as unpublished:
        for number, (kind, path) in enumerate(zip(formats, files, strict=True)):
            progress(f"export {kind}", number, len(formats), "formats")
            scratch = unpublished.enter_context(published(path))
            _write(kind, model, scratch)
            size = evaluation_batch(model.input_shape[1:], finished_run.recipe["input_size"])
            probabilities = _predict_without_project(kind, scratch, images, rows, size)
            holds, parities[kind] = parity(probabilities, stored, finished_run.recipe["precision"])
            if not holds:
                export_name = f"{kind} export of {finished_run.folder.name}"
                raise DamagedFile(f"{export_name} does not reproduce the run's predictions: {parities[kind]}")
            if kind == "keras":
                with zipfile.ZipFile(scratch, "a") as file:  # Keras ignores other files in the archive
                    for name, text in ((NAMES_FILE, names), (CARD_FILE, model_card(finished_run, parities))):
                        file.writestr(zipfile.ZipInfo(name), text)
        for name, text in ((NAMES_FILE, names), (CARD_FILE, model_card(finished_run, parities))):
            files.append(target.with_suffix(f".{name}"))
            unpublished.enter_context(published(files[-1])).write_text(text, encoding="utf-8")
    return {"files": [str(path) for path in files], "parity": parities}


def _write(kind: str, model: keras.Model, path: Path) -> None:
    """Write a model in a format; raise HeadstartError with one line if it cannot be converted."""
    try:
        FORMATS[kind](model, path)
    except (OSError, HeadstartError):
        raise  # a full disk is explained elsewhere
    except Exception as error:  # converters raise many exception types, some with pages of text
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise HeadstartError(f"{path}: this network cannot be written as {kind} ({reason})") from error


def _predict_without_project(
    kind: str, export: Path, images: ImageStore, rows: np.ndarray, size: int
) -> np.ndarray:
    """Return an export's probabilities (n, C) for rows (n,), computed by a process without this project."""
    with tempfile.TemporaryDirectory() as folder:
        chosen, out = Path(folder) / "rows.npy", Path(folder) / "probabilities.npy"
        np.save(chosen, rows)
        link = Path(folder) / f"export.{kind}"  # in UTF-8, see _save_module
        link.symlink_to(export)
        values = (kind, link, images.images.filename, chosen, out, size)
        command = [sys.executable, "-P", without_project.__file__, *map(str, values)]
        paths = [path for path in sys.path if path and not (Path(path) / "pipeline").is_dir()]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        process = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace"
        )
        if process.returncode:
            reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1][:200]
            raise HeadstartError(
                f"{export.name}: the {kind} export does not load without headstart ({reason})"
            )
        return np.load(out)


def check_target(out: str, formats: list[str]) -> None:
    """Raise BadInput for unknown formats and for a path that cannot hold an export."""
    for kind in formats:
        if kind not in FORMATS:
            raise unknown_name("format", kind, FORMATS)
    target = Path(out)
    if target.suffix != ".keras":
        raise BadInput(f"{out}: expected a file name ending in .keras, such as model.keras")
    folder = target.with_suffix(".saved_model")
    if "saved_model" in formats and folder.exists():
        raise BadInput(f"{folder}: the folder already exists; remove it or choose another name")
    for name in (*formats, NAMES_FILE, CARD_FILE):
        check_publishable(target.with_suffix(f".{name}"))


def stored_predictions(run: RunResult, images: ImageStore) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions (n,) of test images in a data set, and their stored probabilities (n, C).

    If test has fewer than MIN_CHECKED images, val is included. Raises DamagedFile if the data set does not
    have all images of the run.
    """
    splits = [run.split("test")]
    if len(splits[0]) < MIN_CHECKED and len(run.split("val")):
        splits.append(run.split("val"))
    index = np.concatenate([split.index for split in splits])
    rows = pd.Index(images.index).get_indexer(index)
    if (rows < 0).any():
        missing = index[rows < 0][0]
        raise DamagedFile(f"{images.path}: image {missing} of {run.folder.name} is missing")
    return rows, np.concatenate([split.probabilities for split in splits])


def parity(probabilities: np.ndarray, stored: np.ndarray, precision: str) -> tuple[bool, str]:
    """Return whether probabilities (n, C) reproduce the stored ones (n, C), and how they compare, as text."""
    distance = float(np.abs(probabilities - stored).sum(axis=1).mean() / 2)
    agreement = float((probabilities.argmax(axis=1) == stored.argmax(axis=1)).mean())
    maximum, minimum = BOUNDS[precision]
    text = (
        f"{len(stored)} images: same class on {100 * agreement:.2f} % (at least {100 * minimum:g}), mean "
        f"distance of probabilities {distance:.2g} (at most {maximum:g}, {precision})"
    )
    return distance <= maximum and agreement >= minimum, text


def model_card(run: RunResult, parities: dict[str, str]) -> str:
    """Return the model card: input and output, data, training, accuracy and settings."""
    recipe, scores = run.recipe, score(run.split("test"))
    share, low, high = (100 * scores[f"accuracy{end}"] for end in ("", "_low", "_high"))
    facts = [
        ["scheme", recipe["scheme"]],
        ["initial weights", recipe["weights"]],
        ["data", data_of(recipe)],
        ["accuracy on test", f"{share:.2f} % (95 %: {low:.2f} to {high:.2f})"],
        ["log loss on test", f"{scores['log_loss']:.4f} nats"],
        ["training", f"{format_duration(run.costs['total_seconds'])} total, {recipe['precision']}"],
        ["seed", str(recipe["seed"])],
        ["run", run.folder.name],
        ["versions", ", ".join(f"{name} {version}" for name, version in recipe["versions"].items())],
    ]
    weights = named_weights(recipe["fingerprint"].get("features", {}).get("weights", ""))
    data = DATASETS.get(recipe["dataset"])
    facts += [["credit for the weights", weights.credit]] if weights else []
    facts += [["credit for the data", data.credit]] if data and data.credit else []
    names, side, seen = (recipe[name] for name in ("class_names", "image_size", "input_size"))
    to_input = f", and to {seen} x {seen} inside the network" if seen != side else ""
    parts = [
        f"# {recipe['scheme']}",
        f"Input: RGB images (n, height, width, 3), uint8. Output: probabilities (n, {len(names)}), float32, "
        f"of the classes in this order: {', '.join(names)}. The model includes preprocessing and the "
        f"backbone, and fits images: the square at the center is resized to {side} x {side} pixels, as in "
        f"training{to_input}. Numbers of other types must be whole numbers from 0 to 255 as well: an image "
        "with other values, or whose largest value is 1, gets NaN.",
        f"TensorFlow Lite: images (n, {side}, {side}, 3), uint8, and nothing else." * ("tflite" in parities),
        markdown_table(["property", "value"], facts),
        *(f"Comparison with the run's stored predictions, {kind}: {parities[kind]}." for kind in parities),
        "The model only knows the classes above and assigns one of them to every image.",
        "## Settings",
        "```json\n" + json.dumps(recipe["settings"], indent=2, sort_keys=True) + "\n```",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _save_module(
    model: keras.Model, shape: tuple[int | None, ...], dtypes: Sequence[Any], path: Path
) -> None:
    """Write a SavedModel whose `serve` takes images of a shape in each of dtypes, by default the first."""
    module = tf.Module()
    module.serve = tf.function(lambda pixels: model(tf.cast(pixels, model.input.dtype), training=False))
    module.stored = [variable.value for variable in model.variables]
    specs = {dtype.name: tf.TensorSpec([None, *shape], dtype, "pixels") for dtype in dtypes}
    signatures = {name: module.serve.get_concrete_function(spec) for name, spec in specs.items()}
    signatures["serving_default"] = next(iter(signatures.values()))
    with tempfile.TemporaryDirectory() as links:
        link = Path(links) / "folder"  # TensorFlow opens no path that is not UTF-8
        link.symlink_to(path.parent.absolute())
        tf.saved_model.save(module, str(link / path.name), signatures)


def _write_tflite(model: keras.Model, path: Path) -> None:
    """Write a TensorFlow Lite file for images (n, S, S, 3) uint8; it has no antialiased resizing."""
    with tempfile.TemporaryDirectory() as folder:
        fixed = nan_unless_pixels(with_matrix_resizing(model))
        _save_module(fixed, model.input_shape[1:], (tf.uint8,), Path(folder))
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


# How to write a model for images of the run's size in each format, which is also the suffix of its file.
# All but TensorFlow Lite take images of any size. without_project.LOADERS has the functions that load them.
FORMATS: dict[str, Callable[[keras.Model, Path], object]] = {
    "keras": lambda model, path: for_any_size(model).save(path),
    "saved_model": lambda model, path: _save_module(
        for_any_size(model), (None, None, 3), (tf.uint8, tf.float32), path
    ),
    "tflite": _write_tflite,
}
