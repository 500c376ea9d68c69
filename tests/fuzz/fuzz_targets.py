"""Every reader of untrusted bytes, as a function of bytes.

For any bytes, a reader must return or raise one of the project's own errors within TIME_LIMIT, and the
address space of the process must not grow by more than MEMORY_LIMIT. A target gets an empty folder, creates
the other files that the reader needs, and returns a function that reads bytes, and the valid files that
fuzzing starts from. Checksums and keys are adjusted to the mutated bytes, so that the code behind the checks
is reached. Targets modify tables of the project, so each runs in its own process (fuzz_child).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import fuzz_seeds as seeds

from pipeline.features.sections import NOTE_NUMBERS, Section
from pipeline.progress import silent
from pipeline.storage.fingerprint import digest_of_values, key_of
from pipeline.storage.layout import COSTS
from pipeline.storage.publishing import (
    MANIFEST,
    SEAL,
    describe_file,
    publish_manifest,
    publish_sealed,
    read_manifest,
    undamaged_files,
    why_incomplete,
)

MEMORY_LIMIT = 256 << 20  # bytes, for one input; the seeds are below 100 kB
TIME_LIMIT = 10  # seconds, for one input
LARGEST_PIXELS = 1 << 20  # the real limit is a hundred times higher and would need a hundred times the memory

EXTRACTION_COSTS = {
    "seconds": 1.5,
    "images": 3,
    "images_per_second": 2.0,
    "peak_memory_mb": 812.5,
    "bytes": 51_240,
}


class Prepared(NamedTuple):
    """A reader of bytes and the valid files that fuzzing starts from."""

    read: Callable[[bytes], object]
    seeds: Sequence[bytes]


def pickles(root: Path) -> Prepared:
    """The reader of pickles."""
    from pipeline.download.pickles import load_plain

    return Prepared(load_plain, seeds.pickles())


def cifar10_archive(root: Path) -> Prepared:
    """The reader of CIFAR-10's archive, with twelve images."""
    members = seeds.cifar10_members()
    return Prepared(
        lambda data: _read_cifar10(root, members, data),
        [seeds.archive_of(members, mode) for mode in ("w", "w:gz")],
    )


def cifar10_batch(root: Path) -> Prepared:
    """The reader of a CIFAR-10 batch, with a matching checksum."""
    return _cifar10_member(root, 0)


def cifar10_names(root: Path) -> Prepared:
    """The reader of the CIFAR-10 class names, with a matching checksum."""
    return _cifar10_member(root, -1)


def _cifar10_member(root: Path, position: int) -> Prepared:
    from pipeline.download.cifar import ARCHIVES

    members, name = seeds.cifar10_members(), ARCHIVES["cifar10"].members[position].name

    def read(data: bytes) -> object:
        mutated = {**members, name: data}
        return _read_cifar10(root, mutated, seeds.archive_of(mutated, "w"))

    return Prepared(read, [members[name]])


def _read_cifar10(root: Path, members: dict[str, bytes], archive: bytes) -> object:
    from small_archives import small_row

    from pipeline.download.archive import read_archive

    path = root / "archive"
    path.write_bytes(archive)
    return read_archive(small_row("cifar10", members, seeds.PER_BATCH), path)


def feature_shard(root: Path) -> Prepared:
    """The reader of features, with a cache of one shard and a manifest that matches it."""
    from pipeline.features.store import FeatureStore

    section = _write_cache(root)

    def read(data: bytes) -> object:
        section.shard(0).write_bytes(data)
        _publish_shard(section)
        return _read_everything(FeatureStore(section.cache))

    return Prepared(read, seeds.hdf5_files(seeds.feature_columns()))


def feature_manifest(root: Path) -> Prepared:
    """The reader of features, with a manifest whose key, seal and folder match its content."""
    from pipeline.features.store import FeatureStore

    section = _write_cache(root)
    shard, seed = section.shard(0), (section.folder / MANIFEST).read_bytes()
    spare = shutil.move(section.folder, root / "spare")

    def read(data: bytes) -> object:
        content = _with_key_and_seal(data)
        shutil.rmtree(section.cache, ignore_errors=True)
        folder = section.cache / _folder_of(content)
        folder.mkdir(parents=True)
        os.link(Path(spare) / shard.name, folder / shard.name)
        os.link(Path(spare) / COSTS, folder / COSTS)
        (folder / MANIFEST).write_bytes(content)
        return _read_everything(FeatureStore(section.cache))

    return Prepared(read, [seed])


def shard_note(root: Path) -> Prepared:
    """The reader of the note beside a finished shard, unchanged and with a matching seal."""
    from pipeline.features.extract import finish

    section = _write_cache(root)
    span = (0, seeds.ROWS)
    note = {"key": section.key, "span": list(span), "file": describe_file(section.shard(0))}
    publish_sealed(section.note(0), {**note, **dict.fromkeys(NOTE_NUMBERS, 1.5)})

    def read(data: bytes) -> object:
        for content in (data, _with_seal(data)):
            section.note(0).write_bytes(content)
            section.has_shard(0)
            section.read_note(0, span)
        return finish(section, seeds.ROWS, {})

    return Prepared(read, [section.note(0).read_bytes()])


def extraction_costs(root: Path) -> Prepared:
    """The reader of the costs of an extraction, with a matching seal."""
    from pipeline.features.store import FeatureStore

    section = _write_cache(root)
    store, costs = FeatureStore(section.cache), section.folder / COSTS

    def read(data: bytes) -> object:
        costs.write_bytes(_with_seal(data))
        return store.costs()

    return Prepared(read, [costs.read_bytes()])


def _write_cache(root: Path) -> Section:
    """Write a finished cache of one shard, with its costs, and return its section."""
    section = seeds.feature_section(root / "cache")
    section.folder.mkdir(parents=True)
    section.shard(0).write_bytes(seeds.hdf5_files(seeds.feature_columns())[0])
    _publish_shard(section)
    publish_sealed(section.folder / COSTS, EXTRACTION_COSTS)
    return section


def _publish_shard(section: Section) -> None:
    facts = {"rows": seeds.ROWS, "rows_by_shard": [seeds.ROWS]}
    publish_manifest(section.folder, section.fingerprint, [section.shard(0).name], facts)


def _read_everything(store) -> object:
    """Read everything that a feature store offers."""
    features = [store.load([layer], view) for layer in store.layers for view in store.views]
    return store.labels, store.names, [store.rows(name) for name in ("train", "val")], features


def _with_key_and_seal(data: bytes) -> bytes:
    """Return a manifest with a matching key and seal; return anything else unchanged."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        content = json.loads(data)
        content["key"] = key_of(content["fingerprint"])
        return _with_seal(seeds.as_json(content))
    return data


def _with_seal(data: bytes) -> bytes:
    """Return a JSON object with a matching seal; return anything else unchanged."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        content = json.loads(data)
        if isinstance(content, dict):
            content.pop(SEAL, None)
            return seeds.as_json({**content, SEAL: digest_of_values(content)})
    return data


def _folder_of(manifest: bytes) -> str:
    """Return the folder name of the section with that manifest in a cache."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError, UnicodeError):
        content = json.loads(manifest)
        name = f"{content['fingerprint']['view']}-{content['key']}"
        if len(os.fsencode(name)) < 200 and Path(name).name == name and "\0" not in name:
            return name
    return "folder"


def image_store(root: Path) -> Prepared:
    """The reader of prepared data sets, with a manifest that matches the file."""
    from pipeline.datasets.store import DATASET_FILE, IMAGES_FILE, ImageStore

    facts = {"class_names": seeds.CLASS_NAMES, "counts": {"train": 1, "val": 1, "test": 1}}
    _write_images(root)

    def read(data: bytes) -> object:
        (root / DATASET_FILE).write_bytes(data)
        publish_manifest(root, seeds.DATASET, [DATASET_FILE, IMAGES_FILE], facts)
        store = ImageStore(root)
        return store.rows("train"), store.images[:], store.images[1:2]

    return Prepared(read, seeds.hdf5_files(seeds.image_columns()))


def image_file(root: Path) -> Prepared:
    """The reader of the images of a prepared data set."""
    from pipeline.datasets.images import map_images

    _write_images(root)
    files = [(root / "images.npy").read_bytes()]

    def read(data: bytes) -> object:
        (root / "images.npy").write_bytes(data)
        images = map_images(root / "images.npy")
        return images[:], images[1:2]

    return Prepared(read, files)


def _write_images(root: Path) -> None:
    """Write three images that belong to seeds.image_columns."""
    import numpy as np

    from pipeline.datasets.images import ImageWriter

    with ImageWriter(root / "images.npy", 32) as writer:
        writer.add(np.arange(3 * 32 * 32 * 3).astype(np.uint8).reshape(3, 32, 32, 3))


def image_manifest(root: Path) -> Prepared:
    """The reader of prepared data sets, with a manifest whose key and seal match its content."""
    from pipeline.datasets.store import DATASET_FILE, IMAGES_FILE, ImageStore

    _write_images(root)
    (root / DATASET_FILE).write_bytes(seeds.hdf5_files(seeds.image_columns())[0])
    folder = {"name": "folder:My pictures", "source": "files by sha256:00", "files": 3, "fitting": "square"}
    folder["image_size"] = 32
    manifests = []
    for fingerprint in (seeds.DATASET, folder):
        facts = {"class_names": seeds.CLASS_NAMES, "counts": {"train": 1, "val": 1, "test": 1}}
        publish_manifest(
            root, fingerprint, [DATASET_FILE, IMAGES_FILE], {**facts, "note": "2 files left out"}
        )
        manifests.append((root / MANIFEST).read_bytes())

    def read(data: bytes) -> object:
        (root / MANIFEST).write_bytes(_with_key_and_seal(data))
        store = ImageStore(root)
        return (
            store.images[:],
            store.row,
            len(store),
            [name.upper() for name in store.class_names],
            sum(store.counts.values()),
        )

    return Prepared(read, manifests)


def keras_weights(root: Path) -> Prepared:
    """A user's file of weights, converted to the project's own layout and read back."""
    from pipeline.backbones.weights import identify, obtain_weights, read_weights

    seeds.register_tiny()
    path, folder = root / "own.h5", root / "weights"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        fingerprint = {"backbone": "tiny", "weights": identify(str(path), "tiny")}
        obtain_weights(fingerprint, str(path), str(folder), str(root), [])
        return read_weights(folder)

    return Prepared(read, seeds.weights_files())


def onnx_weights(root: Path) -> Prepared:
    """The reader of weights in an ONNX file."""
    from pipeline.backbones.weights import read_arrays

    def read(data: bytes) -> object:
        (root / "own.onnx").write_bytes(data)
        return read_arrays(root / "own.onnx", seeds.TINY)

    return Prepared(read, seeds.onnx_files())


def published_weights(root: Path) -> Prepared:
    """The reader of the project's own weights, with a manifest that matches the file."""
    from pipeline.backbones.weights import WEIGHTS_FILE, publish_weights, random_arrays, read_weights

    seeds.register_tiny()
    publish_weights(root, {"backbone": "tiny"}, random_arrays(seeds.TINY, seed=0), {})
    seed = (root / WEIGHTS_FILE).read_bytes()

    def read(data: bytes) -> object:
        (root / WEIGHTS_FILE).write_bytes(data)
        publish_manifest(root, {"backbone": "tiny"}, [WEIGHTS_FILE])
        return read_weights(root)

    return Prepared(read, [seed])


def weights_manifest(root: Path) -> Prepared:
    """The reader of the project's own weights, with a manifest whose key and seal match its content."""
    from pipeline.backbones.weights import publish_weights, random_arrays, read_weights

    seeds.register_tiny()
    publish_weights(root, {"backbone": "tiny"}, random_arrays(seeds.TINY, seed=0), {})
    seed = (root / MANIFEST).read_bytes()

    def read(data: bytes) -> object:
        (root / MANIFEST).write_bytes(_with_key_and_seal(data))
        return read_weights(root)

    return Prepared(read, [seed])


def picture(root: Path) -> Prepared:
    """The reader of one picture."""
    from pipeline.datasets import pictures

    _lower_limits(pictures)
    path = root / "picture"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        return pictures.read_picture(path, 32)

    return Prepared(read, seeds.pictures())


def picture_folder(root: Path) -> Prepared:
    """The reader of folders of pictures, which lists unreadable files."""
    from pipeline.datasets import pictures
    from pipeline.datasets.images import ImageWriter
    from pipeline.datasets.readers import read_folder

    _lower_limits(pictures)
    files = seeds.pictures()
    for name in ("cats/valid.png", "dogs/valid.png"):
        (root / "pictures" / name).parent.mkdir(parents=True)
        (root / "pictures" / name).write_bytes(files[0])

    def read(data: bytes) -> object:
        (root / "pictures" / "dogs" / "mutated.png").write_bytes(data)
        with ImageWriter(root / "images.npy", 32) as writer:
            result = read_folder(root / "pictures", writer, silent)
        assert len(result.labels) + len(result.unreadable) == 3
        return result

    return Prepared(read, files)


def _lower_limits(pictures) -> None:
    """Lower the limits on pixels: the project's, and Pillow's, which is twice its constant."""
    from PIL import Image

    pictures.LARGEST_PIXELS, Image.MAX_IMAGE_PIXELS = LARGEST_PIXELS, LARGEST_PIXELS


def manifest(root: Path) -> Prepared:
    """The reader of manifests, unchanged and with a matching key and seal, and the checks of a manifest."""
    (root / "a.bin").write_bytes(b"abc")
    fingerprint = {"weights": {"name": "é"}, "sizes": [1, 2.5, None, True]}
    publish_manifest(root, fingerprint, ["a.bin"], {"rows": 7})

    def read(data: bytes) -> object:
        for content in (data, _with_key_and_seal(data)):
            (root / MANIFEST).write_bytes(content)
            why_incomplete(root, fingerprint)
            undamaged_files(root, {"rows": 7})
        result = read_manifest(root)
        return result.missing(), result.bytes, [result.verified(name) for name in result.files]

    return Prepared(read, [(root / MANIFEST).read_bytes()])


def run_predictions(root: Path) -> Prepared:
    """The reader of runs: the predictions."""
    return _run_file(root, "predictions.h5", seeds.hdf5_files(seeds.prediction_columns()))


def run_recipe(root: Path) -> Prepared:
    """The reader of runs: the recipe."""
    return _run_file(root, "recipe.json", [seeds.as_json(seeds.recipe())])


def run_costs(root: Path) -> Prepared:
    """The reader of runs: the costs."""
    return _run_file(root, "costs.json", [seeds.as_json(seeds.costs())])


def run_history(root: Path) -> Prepared:
    """The reader of runs: the history."""
    return _run_file(root, "history.csv", [seeds.history()])


def _run_file(root: Path, name: str, files: Sequence[bytes]) -> Prepared:
    from pipeline.runs.result import caption, read_run

    contents = {
        "recipe.json": seeds.as_json(seeds.recipe()),
        "costs.json": seeds.as_json(seeds.costs()),
        "history.csv": seeds.history(),
        "predictions.h5": seeds.hdf5_files(seeds.prediction_columns())[0],
    }
    for other, content in contents.items():
        (root / other).write_bytes(content)

    def read(data: bytes) -> object:
        (root / name).write_bytes(data)
        publish_manifest(root, {"scheme": "head:linear"}, list(contents))
        return caption(read_run(root))

    return Prepared(read, files)


def checkpoint(root: Path) -> Prepared:
    """The reader of the checkpoint of an interrupted training."""
    import numpy as np

    from pipeline.storage.layout import CHECKPOINT
    from pipeline.training.checkpoint import Checkpoint
    from pipeline.training.history import Clock, History

    class Variable:
        shape = (2, 3)

        def assign(self, values) -> None:
            np.zeros(self.shape)[:] = values

    variables = [Variable(), Variable()]
    history = History()
    history.add(stage="train", train_loss=1.5)
    state = {"stage": "train", "epoch": 1, "history": history.rows, "training_seconds": 1.5}
    state |= {"seconds": 2.5, "stages": {"train": 1.5}, "variables": 2}
    arrays = {f"variable{number}": np.ones((2, 3), np.float32) for number in range(2)}
    np.savez(root / "seed.npz", state=np.frombuffer(seeds.as_json(state), np.uint8), **arrays)

    def read(data: bytes) -> object:
        (root / CHECKPOINT).write_bytes(data)
        result = Checkpoint(root, Clock())
        return result.stage, result.stage and result.restore(result.stage, variables, History())

    return Prepared(read, [(root / "seed.npz").read_bytes()])


TARGETS = {
    target.__name__: target
    for target in (
        pickles,
        cifar10_archive,
        cifar10_batch,
        cifar10_names,
        feature_shard,
        feature_manifest,
        shard_note,
        extraction_costs,
        image_store,
        image_file,
        image_manifest,
        keras_weights,
        onnx_weights,
        published_weights,
        weights_manifest,
        picture,
        picture_folder,
        manifest,
        run_predictions,
        run_recipe,
        run_costs,
        run_history,
        checkpoint,
    )
}
