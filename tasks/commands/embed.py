"""Write the features of pictures, or of a data set, to a Parquet, HDF5 or NumPy file.

examples:
  headstart embed holiday/ photo.jpg --out features.parquet
  headstart embed --dataset cifar10-sample --layers block5_pool --out features.h5

Features are averages over space of each layer, joined in network order, and averages over the views.
Pictures that were embedded before, under whatever name, come from the cache.

exit codes: 0 all pictures embedded, 1 some could not be read (they are listed), 2 bad input
"""

import argparse
from pathlib import Path
from typing import Any

from pipeline.backbones.table import BACKBONES, WeightsChoice
from pipeline.children import run_in_child
from pipeline.datasets.files import text_of_name
from pipeline.datasets.folders import FOLDER_IMAGE_SIZE, find_pictures
from pipeline.errors import BadInput
from pipeline.features.sections import cache_fingerprint, parse_layers
from pipeline.machine import resolve_precision
from pipeline.storage import layout
from pipeline.views import parse_views
from tasks import DownloadWeights, ExtractFeatures
from tasks.commands.build import build
from tasks.commands.options import add_task_options, given, task_of
from tasks.commands.shared import report_unreadable, show
from tasks.configuration import data_folder
from tasks.progress import ProgressReporter


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="*", help="pictures or folders of pictures")
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write: .parquet, .h5 or .npy")
    add_task_options(parser, ExtractFeatures)


def run(options: argparse.Namespace) -> int:
    from pipeline.use.tables import check_table, publish_table  # loads NumPy and h5py

    out, task = Path(options.out), task_of(ExtractFeatures, options)
    check_table(out)
    if bool(options.paths) == ("dataset" in given(ExtractFeatures, options)):
        raise BadInput("expected either pictures or --dataset")
    if task.pooling != "average":
        raise BadInput(
            "--pooling: expected average; luigi --module tasks ExtractFeatures caches feature maps"
        )
    if not options.paths:
        return _embed_dataset(task, out)

    from pipeline.use.embed import blocks_of

    paths, cache = find_pictures(options.paths), data_folder() / layout.CONTENT
    weights = task.clone(DownloadWeights)
    if code := build([weights]):
        return code
    request = content_request(task, weights.choice, task.image_size or FOLDER_IMAGE_SIZE)
    arguments = {"request": request, "weights": str(weights.folder), "cache": str(cache), "paths": paths}
    with ProgressReporter() as progress:
        result = run_in_child("pipeline.use.embed:embed", arguments, progress)
    readable = [(path, digest) for path, digest in zip(paths, result["digests"], strict=True) if digest]
    names, digests = [text_of_name(path) for path, _ in readable], [digest for _, digest in readable]
    if names:
        blocks = blocks_of(cache, request, digests)
        publish_table(out, {"name": names}, width_of(task), blocks)
        show([f"{out}: {len(names):,} pictures, {width_of(task)} features"])
    return report_unreadable(result["unreadable"])


def _embed_dataset(task: ExtractFeatures, out: Path) -> int:
    if code := build([task]):
        return code
    import numpy as np

    from pipeline.datasets.table import SPLIT_NAMES
    from pipeline.features.store import FeatureStore
    from pipeline.use.tables import publish_table

    store, views = FeatureStore(task.folder), parse_views(task.views)
    layers = parse_layers(task.layers, task.backbone)
    splits = [SPLIT_NAMES[code] for code in store.split.tolist()]
    columns = {"name": store.names, "label": store.labels.tolist(), "split": splits}
    streams = [store.blocks(layers, view) for view in views]
    blocks = (np.asarray(sum(parts) / len(parts)) for parts in zip(*streams, strict=True))
    publish_table(out, columns, width_of(task), blocks)
    return show([f"{out}: {len(store.names):,} images, {width_of(task)} features"])


def content_request(settings: Any, weights: WeightsChoice, image_size: int) -> dict[str, Any]:
    """Return the request of use.embed; settings has attributes with the names of extraction's parameters."""
    same = {name: getattr(settings, name) for name in ("backbone", "input_size", "engine")}
    precision = resolve_precision(settings.precision)
    base = cache_fingerprint({"image_size": image_size}, weights=weights, precision=precision, **same)
    layers, views = parse_layers(settings.layers, settings.backbone), parse_views(settings.views)
    return {"base": base, "layers": list(layers), "views": list(views)}


def width_of(settings: Any) -> int:
    """Return the number of features of an image."""
    layers = parse_layers(settings.layers, settings.backbone)
    return sum(BACKBONES[settings.backbone].output(layer).channels for layer in layers)
