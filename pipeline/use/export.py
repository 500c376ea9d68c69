"""A finished run as a model for elsewhere: one file that takes raw pixels, with names, a card and a proof.

Nothing is published unless the exported model, read back from the disk, answers the data set's own test
images as the run's stored probabilities say, within the rounding of the precision they were computed in.
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
from pipeline.datasets.store import ImageStore
from pipeline.errors import BadInput, DamagedFile, unknown_name
from pipeline.formatting import format_duration, markdown_table
from pipeline.progress import Progress, silent
from pipeline.results.scores import score
from pipeline.runs.result import RunResult, data_of, read_run
from pipeline.storage.publishing import explained, publish_text, published
from pipeline.use.network import whole_network

BATCH = 250
CHECKED = 500  # images at least, where val and test have as many
# Largest mean distance of answers (half of the sum of absolute differences), and least share of images on
# which both name the same class. bfloat16 keeps 8 bits; an export computes in float32.
BOUNDS = {"float32": (1e-3, 0.995), "bfloat16": (0.03, 0.97)}
NAMES, CARD = "class_names.json", "card.md"


@dataclass(frozen=True)
class Parity:
    """How far an export's answers are from the stored ones: mean distance 0 … 1, share of equal classes."""

    images: int
    distance: float
    agreement: float
    precision: str

    def __str__(self) -> str:
        limit, least = BOUNDS[self.precision]
        return (
            f"{self.images} images: the same class on {100 * self.agreement:.2f} % "
            f"(at least {100 * least:g}), mean distance of probabilities {self.distance:.2g} "
            f"(at most {limit:g}, {self.precision})"
        )

    @property
    def holds(self) -> bool:
        """Say whether the export gives the run's own answers."""
        limit, least = BOUNDS[self.precision]
        return self.distance <= limit and self.agreement >= least


@dataclass(frozen=True)
class Format:
    """A kind of export: how its place is named, how it is written, and how what was written answers.

    load opens what write wrote: a function of images (n, 32, 32, 3) uint8, n up to BATCH, that returns
    probabilities (n, C). A folder is published as a whole, too.
    """

    suffix: str
    write: Callable[[keras.Model, Path], object]
    load: Callable[[Path], Callable[[np.ndarray], np.ndarray]]
    folder: bool = False


def export(
    run: str, weights: str | None, dataset: str, out: str, formats: list[str], progress: Progress = silent
) -> dict[str, Any]:
    """Write the whole network of a run to out, in each of formats; return {"files", "parity"}.

    out is the path of the .keras file. Class names and a model card lie inside it and beside it, and so do
    the other formats. Raises DamagedFile where an export's answers are not those of the run on its test and
    val images; that format and those behind it are not published.
    """
    result, target = read_run(Path(run)), Path(out)
    network = whole_network(result, Path(weights) if weights else None)
    pixels, stored = evaluated(result, ImageStore(dataset))
    texts = {NAMES: json.dumps(result.recipe["class_names"], indent=2) + "\n"}
    said, files = {}, []
    for number, kind in enumerate(formats):
        progress(f"export {kind}", number, len(formats), "formats")
        how, place = FORMATS[kind], target.with_suffix(FORMATS[kind].suffix)
        with (_published_folder if how.folder else published)(place) as scratch:
            how.write(network, scratch)
            answer = how.load(scratch)
            answers = [answer(pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH)]
            found = parity(np.concatenate(answers), stored, result.recipe["precision"])
            if not found.holds:
                raise DamagedFile(f"{kind} export of {result.folder.name} is not what the run is: {found}")
            texts[CARD] = card(result, found)
            if kind == "keras":
                with zipfile.ZipFile(scratch, "a") as file:  # Keras does not look at other files in it
                    for name, text in texts.items():
                        file.writestr(zipfile.ZipInfo(name), text)
        said[kind] = str(found)
        files.append(str(place))
    for name, text in texts.items():
        publish_text(target.with_suffix(f".{name}"), text)
        files.append(str(target.with_suffix(f".{name}")))
    return {"files": files, "parity": said}


def check_target(out: str, formats: list[str]) -> None:
    """Raise BadInput for formats that do not exist, and for a place that an export cannot take."""
    for kind in formats:
        if kind not in FORMATS:
            raise unknown_name("format", kind, FORMATS)
    target = Path(out)
    if target.suffix != ".keras":
        raise BadInput(f"{out}: expected a file name that ends in .keras, such as model.keras")
    folder = target.with_suffix(FORMATS["saved_model"].suffix)
    if "saved_model" in formats and folder.exists():
        raise BadInput(f"{folder}: expected no such folder yet; remove it, or choose another name")


def evaluated(run: RunResult, images: ImageStore) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) uint8 that the run has answers for, and these answers (n, C).

    They are those of test, and of val as well where test has fewer than CHECKED. Raises DamagedFile where
    the images are not those of the run.
    """
    splits = [run.split("test")]
    if len(splits[0]) < CHECKED and len(run.split("val")):
        splits.append(run.split("val"))
    wanted = np.concatenate([split.index for split in splits])
    rows = pd.Index(images.index).get_indexer(wanted)
    if (rows < 0).any():
        missing = wanted[rows < 0][0]
        raise DamagedFile(f"{images.path}: expected image {missing} of {run.folder.name}, found none")
    return images.images()[rows], np.concatenate([split.probabilities for split in splits])


def parity(answers: np.ndarray, stored: np.ndarray, precision: str) -> Parity:
    """Return how far answers (n, C) are from the stored probabilities (n, C)."""
    distance = np.abs(answers - stored).sum(axis=1).mean() / 2
    agreement = (answers.argmax(axis=1) == stored.argmax(axis=1)).mean()
    return Parity(len(stored), float(distance), float(agreement), precision)


def card(run: RunResult, found: Parity) -> str:
    """Return the model card: what it is, how it was made, how good it is, and on what that was seen."""
    recipe, scores = run.recipe, score(run.split("test"))
    share, low, high = (100 * scores[f"accuracy{end}"] for end in ("", "_low", "_high"))
    facts = [
        ["scheme", recipe["scheme"]],
        ["weights it started from", recipe["weights"]],
        ["data", data_of(recipe)],
        ["accuracy on test", f"{share:.2f} % (95 %: {low:.2f} to {high:.2f})"],
        ["log loss on test", f"{scores['log_loss']:.4f} nats"],
        ["training", f"{format_duration(run.costs['total_seconds'])} in all, {recipe['precision']}"],
        ["seed", str(recipe["seed"])],
        ["run", run.folder.name],
        ["versions", ", ".join(f"{name} {version}" for name, version in recipe["versions"].items())],
    ]
    names = recipe["class_names"]
    parts = [
        f"# {recipe['scheme']}",
        "Takes images (n, 32, 32, 3), uint8, RGB, and gives probabilities "
        f"(n, {len(names)}), float32, of the classes in this order: {', '.join(names)}. Scaling, "
        "preprocessing and the backbone are part of it. Images of other sizes are cut to their "
        "middle square and scaled first, as `headstart predict` does it.",
        markdown_table(["what", ""], facts),
        f"Compared with the answers that the run stored: {found}.",
        "It knows the classes above and nothing else: an image of anything else is still given one.",
        "## Settings",
        "```json\n" + json.dumps(recipe["settings"], indent=2, sort_keys=True) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


@contextlib.contextmanager
def _published_folder(target: Path) -> Iterator[Path]:
    """Yield a place in a scratch folder beside target, which becomes target when the block ends well."""
    name, place = f".{target.name}-", target.parent
    beside = tempfile.TemporaryDirectory(prefix=name, dir=place, ignore_cleanup_errors=True)
    with beside as folder, explained(target):
        scratch = Path(folder) / target.name
        yield scratch
        scratch.replace(target)


def _load_saved_model(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    loaded = tf.saved_model.load(str(path))
    return lambda images: loaded.serve(images).numpy()  # loaded's variables live as long as it does


def _write_tflite(network: keras.Model, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        network.export(folder, format="tf_saved_model", verbose=False)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def _load_tflite(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    interpreter = tf.lite.Interpreter(model_path=str(path), num_threads=machine.usable_cores())
    (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()

    def answer(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(takes["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(takes["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(gives["index"])

    return answer


FORMATS: dict[str, Format] = {
    "keras": Format(
        ".keras",
        lambda network, path: network.save(path),
        lambda path: keras.models.load_model(path, compile=False).predict_on_batch,
    ),
    "saved_model": Format(
        ".saved_model",
        lambda network, path: network.export(path, format="tf_saved_model", verbose=False),
        _load_saved_model,
        folder=True,
    ),
    "tflite": Format(".tflite", _write_tflite, _load_tflite),
}
