"""Headstart in Python: cached features, finished runs, trained models, and features in scikit-learn.

    import headstart

    headstart.list_features()                   # a table of the feature caches
    store = headstart.open_features("cifar10")  # a FeatureStore, by the start or a part of its name
    headstart.runs()                            # a table of the finished runs, settings as columns
    model = headstart.load_model("head-linear") # a Keras model: uint8 RGB pixels in, probabilities out
    headstart.CachedFeatures(input_size=96)     # a scikit-learn transformer: images in, features out

Everything is read from the data folder, HEADSTART_DATA_DIR or data/.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from pipeline.backbones.table import weights_name as _weights_name
from pipeline.children import run_in_child as _run_in_child
from pipeline.datasets.folders import FOLDER_IMAGE_SIZE as _FOLDER_IMAGE_SIZE
from pipeline.datasets.store import ImageStore
from pipeline.errors import HeadstartError
from pipeline.features.sections import finished_sections as _finished_sections
from pipeline.features.sections import parse_layers as _parse_layers
from pipeline.features.store import FeatureStore
from pipeline.results.scores import result_row as _result_row
from pipeline.runs.result import read_run as _read_run
from pipeline.storage import layout as _layout
from tasks import DownloadWeights as _DownloadWeights
from tasks.commands.embed import content_request as _content_request
from tasks.commands.embed import width_of as _width_of
from tasks.commands.shared import find_run as _find_run
from tasks.commands.shared import match_name as _match_name
from tasks.configuration import data_folder as _data_folder

if TYPE_CHECKING:
    import keras

_RUN_COLUMNS = (
    *("run", "scheme", "weights", "backbone", "data_set", "image_size", "input_size", "seed", "precision"),
    *("n_train", "val_accuracy", "accuracy", "accuracy_low", "accuracy_high", "log_loss", "seconds"),
)

__all__ = [
    "CachedFeatures",
    "FeatureStore",
    "HeadstartError",
    "ImageStore",
    "list_features",
    "load_model",
    "open_features",
    "runs",
]


def list_features() -> pd.DataFrame:
    """Return a row for each feature cache: name, data set, weights, sizes, pooling, layers and views."""
    rows = []
    for folder in _layout.list_folders(_data_folder(), "cache"):
        sections = _finished_sections(folder)
        if sections:
            base = sections[0].base
            rows.append(
                {
                    "name": folder.name,
                    "data_set": base["dataset"]["name"],
                    "backbone": base["backbone"],
                    "weights": _weights_name(base["weights"]),
                    "image_size": base["dataset"]["image_size"],
                    "input_size": base["input_size"],
                    "pooling": base["pooling"],
                    "precision": base["precision"],
                    "layers": sorted({layer for section in sections for layer in section.layers}),
                    "views": sorted({section.view for section in sections}),
                }
            )
    columns = ["name", "data_set", "backbone", "weights", "image_size", "input_size", "pooling", "precision"]
    return pd.DataFrame(rows, columns=[*columns, "layers", "views"])


def open_features(name: str | Path) -> FeatureStore:
    """Return the FeatureStore of a cache, by its path, its name, or the start or a part of its name.

    Raises HeadstartError, which lists the caches that there are.
    """
    with contextlib.suppress(OSError):  # a name that is too long
        if str(name) and _finished_sections(Path(name)):
            return FeatureStore(name)
    folders = {folder.name: folder for folder in _layout.list_folders(_data_folder(), "cache")}
    return FeatureStore(folders[_match_name(str(name), list(folders), "feature cache")])


def runs() -> pd.DataFrame:
    """Return a row for each finished run: results, costs, and each setting as a column `settings.<name>`.

    Accuracies are fractions with 95 % Wilson intervals on test; seconds include extraction.
    """
    rows = []
    for folder in _layout.finished(_data_folder(), "run"):
        run = _read_run(folder)
        row = {**_result_row(run), "seconds": run.costs["total_seconds"]}
        settings = {f"settings.{name}": value for name, value in run.recipe["settings"].items()}
        rows.append({**{name: row[name] for name in _RUN_COLUMNS}, **settings})
    return pd.DataFrame(rows)


def load_model(run: str | Path) -> keras.Model:
    """Return the standalone model of a finished run, by its path, name, or the start or a part of its name.

    It takes RGB pixels (B, S, S, 3) uint8, S being the run's image size, and returns probabilities (B, C)
    float32. class_names of the model lists the C classes. Raises HeadstartError if there is no such run.
    """
    from pipeline.use.network import standalone_model
    from tasks.commands.predict import weights_of

    folder = _find_run(str(run))
    finished, weights = _read_run(folder), weights_of(folder)
    model = standalone_model(finished, Path(weights) if weights else None)
    model.class_names = list(finished.recipe["class_names"])
    return model


class CachedFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features of images from a frozen, pretrained backbone, as a scikit-learn transformer with a cache.

    X is an array of RGB images (n, S, S, 3) uint8, or a sequence of n paths of pictures, which are fitted to
    a square of image_size pixels. The result is (n, D) float32: the averages over space of each layer, joined
    in network order, averaged over the views. Features are cached by the content of each image, so a pipeline
    that is cross-validated or fitted again computes each image once.

    Parameters
    ----------
    backbone : "vgg16", a name in keras.applications, or "file:PATH" of a saved Keras model
    weights : "imagenet", "random", "random:SEED", or the path of a file
    layers : names of layers separated by commas, or "all"
    views : such as "identity" or "identity,hflip"
    image_size : pixels per side that pictures are fitted to; arrays have their own
    input_size : pixels per side that the network sees; None: the image size, or Keras's for its networks
    precision : "auto", "float32" or "bfloat16"
    engine : "tensorflow", "openvino" or "torch"
    cache : folder of the cache; None: content/ in the data folder
    """

    def __init__(
        self,
        backbone: str = "vgg16",
        *,
        weights: str = "imagenet",
        layers: str = "all",
        views: str = "identity",
        image_size: int = _FOLDER_IMAGE_SIZE,
        input_size: int | None = None,
        precision: str = "auto",
        engine: str = "tensorflow",
        cache: str | Path | None = None,
    ):
        self.backbone = backbone
        self.weights = weights
        self.layers = layers
        self.views = views
        self.image_size = image_size
        self.input_size = input_size
        self.precision = precision
        self.engine = engine
        self.cache = cache

    def fit(self, X: Any, y: Any = None) -> CachedFeatures:
        """Check the parameters and the images; nothing is learned from them."""
        self._request(_checked(X)[1] or self.image_size)
        self._n_features_out = _width_of(self)
        self.layers_ = list(_parse_layers(self.layers, self.backbone))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features (n, D) float32 of images; raise HeadstartError for unreadable pictures."""
        from pipeline.use.embed import blocks_of

        images, side = _checked(X)
        request, weights = self._request(side or self.image_size)
        cache = Path(self.cache) if self.cache else _data_folder() / _layout.CONTENT
        arguments = {"request": request, "weights": str(weights), "cache": str(cache)}
        if side is None:
            result = _run_in_child("pipeline.use.embed:embed", {**arguments, "paths": images})
        else:
            result = self._embed_array(arguments, images)
        if result["unreadable"]:
            raise HeadstartError("; ".join(result["unreadable"]))
        return np.concatenate(list(blocks_of(cache, request, result["digests"])))

    def _embed_array(self, arguments: dict[str, Any], images: np.ndarray) -> dict[str, Any]:
        from pipeline.use.embed import ContentCache, digest_of

        cached, digests = ContentCache(Path(arguments["cache"]), arguments["request"]), map(digest_of, images)
        keys = list(digests)
        missing = [number for number, key in enumerate(keys) if key not in cached]
        if missing:
            with tempfile.TemporaryDirectory() as folder:
                path = f"{folder}/images.npy"
                np.save(path, images[missing])
                _run_in_child("pipeline.use.embed:embed", {**arguments, "array": path})
        return {"digests": [key.hex() for key in keys], "unreadable": []}

    def _request(self, image_size: int) -> tuple[dict[str, Any], Path]:
        """Return what the features depend on and the folder of the weights, which are obtained if missing."""
        import luigi

        task = _DownloadWeights(backbone=self.backbone, weights=self.weights)
        if not task.complete() and not luigi.build([task], local_scheduler=True, log_level="WARNING"):
            raise HeadstartError(
                f"weights {self.weights!r} of {self.backbone} could not be obtained, see above"
            )
        return _content_request(self, task.choice, image_size), task.folder

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        tags.input_tags.string = True
        return tags


def _checked(X: Any) -> tuple[Any, int | None]:
    """Return paths and None, or images (n, S, S, 3) uint8 and S; raise ValueError for anything else."""
    images = np.asarray(X)
    if images.ndim == 1 and len(images) and all(isinstance(path, (str, Path)) for path in images):
        return [str(path) for path in images], None
    square = images.ndim == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
    if not (square and len(images) and images.dtype == np.uint8):
        raise ValueError(
            "X: expected RGB images (n, S, S, 3) uint8 or a sequence of paths, and at least one, received an "
            f"array {images.shape} of {images.dtype}"
        )
    return images, images.shape[1]
