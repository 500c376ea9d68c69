"""Export a finished run as a standalone model that takes raw pixels, with class names and a model card.

An export is published only if the model, loaded from disk, reproduces the run's stored probabilities on the
test images, within the rounding error of the precision in which they were computed.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline import machine
from pipeline.backbones.table import named_weights
from pipeline.datasets.store import ImageStore
from pipeline.datasets.table import DATASETS
from pipeline.errors import BadInput, DamagedFile, unknown_name
from pipeline.formatting import format_duration, markdown_table
from pipeline.progress import Progress, silent
from pipeline.results.scores import score
from pipeline.runs.result import RunResult, data_of, read_run
from pipeline.storage.publishing import explain_disk_errors, publish_text, published
from pipeline.use.network import standalone_model

BATCH_SIZE = 250
MIN_CHECKED = 500  # images, if val and test have as many
# Maximum mean distance of probabilities (half the sum of absolute differences), and minimum share of images
# with the same predicted class. bfloat16 has 8 significant bits; an export computes in float32.
BOUNDS = {"float32": (1e-3, 0.995), "bfloat16": (0.03, 0.97)}
NAMES_FILE, CARD_FILE = "class_names.json", "card.md"


@dataclass(frozen=True)
class Parity:
    """An export's predictions compared with the stored ones: mean distance 0..1, share of equal classes."""

    images: int
    distance: float
    agreement: float
    precision: str

    def __str__(self) -> str:
        maximum, minimum = BOUNDS[self.precision]
        return (
            f"{self.images} images: same class on {100 * self.agreement:.2f} % (at least "
            f"{100 * minimum:g}), mean distance of probabilities {self.distance:.2g} (at most "
            f"{maximum:g}, {self.precision})"
        )

    @property
    def holds(self) -> bool:
        """Whether the export reproduces the run's predictions."""
        maximum, minimum = BOUNDS[self.precision]
        return self.distance <= maximum and self.agreement >= minimum


@dataclass(frozen=True)
class Format:
    """A file format of exports: its suffix, how to write it, and how to load it for predictions.

    load returns a function from images (n, 32, 32, 3) uint8, n up to BATCH_SIZE, to probabilities (n, C).
    folder is true if the export is a folder; it is published atomically as well.
    """

    suffix: str
    write: Callable[[keras.Model, Path], object]
    load: Callable[[Path], Callable[[np.ndarray], np.ndarray]]
    folder: bool = False


def export(
    run: str, weights: str | None, dataset: str, out: str, formats: list[str], progress: Progress = silent
) -> dict[str, Any]:
    """Write the standalone model of a run to out in each of formats; return {"files", "parity"}.

    out is the path of the .keras file, which contains class names and a model card. The other formats and
    copies of both texts are written next to it. Raises DamagedFile if an export does not reproduce the run's
    predictions on its test and val images; that format and those after it are not published.
    """
    finished_run, target = read_run(Path(run)), Path(out)
    model = standalone_model(finished_run, Path(weights) if weights else None)
    pixels, stored = stored_predictions(finished_run, ImageStore(dataset))
    texts = {NAMES_FILE: json.dumps(finished_run.recipe["class_names"], indent=2) + "\n"}
    parities, files = {}, []
    for number, kind in enumerate(formats):
        progress(f"export {kind}", number, len(formats), "formats")
        export_format, path = FORMATS[kind], target.with_suffix(FORMATS[kind].suffix)
        with (_published_folder if export_format.folder else published)(path) as scratch:
            export_format.write(model, scratch)
            predict = export_format.load(scratch)
            starts = range(0, len(pixels), BATCH_SIZE)
            probabilities = np.concatenate([predict(pixels[at : at + BATCH_SIZE]) for at in starts])
            result = parity(probabilities, stored, finished_run.recipe["precision"])
            if not result.holds:
                export_name = f"{kind} export of {finished_run.folder.name}"
                raise DamagedFile(f"{export_name} does not reproduce the run's predictions: {result}")
            texts[CARD_FILE] = model_card(finished_run, result)
            if kind == "keras":
                with zipfile.ZipFile(scratch, "a") as file:  # Keras ignores other files in the archive
                    for name, text in texts.items():
                        file.writestr(zipfile.ZipInfo(name), text)
        parities[kind] = str(result)
        files.append(str(path))
    for name, text in texts.items():
        publish_text(target.with_suffix(f".{name}"), text)
        files.append(str(target.with_suffix(f".{name}")))
    return {"files": files, "parity": parities}


def check_target(out: str, formats: list[str]) -> None:
    """Raise BadInput for unknown formats and for a path that cannot hold an export."""
    for kind in formats:
        if kind not in FORMATS:
            raise unknown_name("format", kind, FORMATS)
    target = Path(out)
    if target.suffix != ".keras":
        raise BadInput(f"{out}: expected a file name ending in .keras, such as model.keras")
    folder = target.with_suffix(FORMATS["saved_model"].suffix)
    if "saved_model" in formats and folder.exists():
        raise BadInput(f"{folder}: the folder already exists; remove it or choose another name")


def stored_predictions(run: RunResult, images: ImageStore) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) uint8 of test and their stored probabilities (n, C).

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
    return images.images()[rows], np.concatenate([split.probabilities for split in splits])


def parity(probabilities: np.ndarray, stored: np.ndarray, precision: str) -> Parity:
    """Compare probabilities (n, C) with the stored ones (n, C)."""
    distance = np.abs(probabilities - stored).sum(axis=1).mean() / 2
    agreement = (probabilities.argmax(axis=1) == stored.argmax(axis=1)).mean()
    return Parity(len(stored), float(distance), float(agreement), precision)


def model_card(run: RunResult, result: Parity) -> str:
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
    names = recipe["class_names"]
    parts = [
        f"# {recipe['scheme']}",
        f"Input: RGB images (n, 32, 32, 3), uint8. Output: probabilities (n, {len(names)}), float32, of the "
        f"classes in this order: {', '.join(names)}. The model includes scaling, preprocessing and the "
        "backbone. Crop images of other sizes to the center square and resize them first, as `headstart "
        "predict` does.",
        markdown_table(["property", "value"], facts),
        f"Comparison with the run's stored predictions: {result}.",
        "The model only knows the classes above and assigns one of them to every image.",
        "## Settings",
        "```json\n" + json.dumps(recipe["settings"], indent=2, sort_keys=True) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


@contextlib.contextmanager
def _published_folder(target: Path) -> Iterator[Path]:
    """Yield a path in a temporary folder next to target; on success, move it to target."""
    prefix, parent = f".{target.name}-", target.parent
    temporary = tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True)
    with temporary as folder, explain_disk_errors(target):
        scratch = Path(folder) / target.name
        yield scratch
        scratch.replace(target)


def _load_saved_model(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    loaded = tf.saved_model.load(str(path))
    return lambda images: loaded.serve(images).numpy()  # loaded keeps its variables alive


def _write_tflite(model: keras.Model, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, format="tf_saved_model", verbose=False)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def _load_tflite(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    interpreter = tf.lite.Interpreter(model_path=str(path), num_threads=machine.usable_cores())
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(inputs["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(outputs["index"])

    return predict


FORMATS: dict[str, Format] = {
    "keras": Format(
        ".keras",
        lambda model, path: model.save(path),
        lambda path: keras.models.load_model(path, compile=False).predict_on_batch,
    ),
    "saved_model": Format(
        ".saved_model",
        lambda model, path: model.export(path, format="tf_saved_model", verbose=False),
        _load_saved_model,
        folder=True,
    ),
    "tflite": Format(".tflite", _write_tflite, _load_tflite),
}
