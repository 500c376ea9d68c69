"""An extension for tests: a small CIFAR-10 and a preset of all schemes, if SMALL_CIFAR10 is set."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np

from pipeline.download.cifar import ARCHIVES, Member
from pipeline.recipes.presets import PRESETS, Plan, Preset

PER_BATCH = 100
ROW = ARCHIVES["cifar10"]


def _members() -> dict[str, bytes]:
    """Return the members of the archive by name; each class has its own color, so that it can be learned."""
    draws = np.random.default_rng(0)
    names = [
        b"airplane",
        b"automobile",
        b"bird",
        b"cat",
        b"deer",
        b"dog",
        b"frog",
        b"horse",
        b"ship",
        b"truck",
    ]
    *batches, meta = (member.name for member in ROW.members)
    members = {}
    for number, name in enumerate(batches):
        labels = [position % 10 for position in range(PER_BATCH)]
        noise = draws.integers(0, 60, (PER_BATCH, 3072))
        rows = (noise + 19 * np.array(labels)[:, None]).astype(np.uint8)
        files = [f"{number}_{position}.png".encode() for position in range(PER_BATCH)]
        members[name] = {b"data": rows, b"labels": labels, b"filenames": files}
    members[meta] = {b"label_names": names}
    return {name: pickle.dumps(content, protocol=3) for name, content in members.items()}


def write(path: Path) -> None:
    """Write the archive."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in _members().items():
            header = tarfile.TarInfo(f"{ROW.folder}/{name}")
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))


if "SMALL_CIFAR10" in os.environ:
    SMALL = tuple(
        Member(old.name, len(data), hashlib.sha256(data).hexdigest(), old.images and PER_BATCH)
        for old, data in zip(ROW.members, _members().values(), strict=True)
    )
    ARCHIVES["cifar10"] = dataclasses.replace(ROW, members=SMALL)
    FEW = {"epochs": 1, "batch_size": 32}
    PRESETS["small"] = Preset(
        name="small",
        title="One of each scheme on few images",
        dataset="cifar10",
        subset=0,
        weights="random",
        seeds=(0,),
        plans=(
            Plan("head:linear", {"epochs": 2, "layers": ["block1_pool"]}),
            Plan("tuned-head:linear", {"epochs": 2, "layers": ["block1_pool"]}),
            Plan("fine-tune:block5", FEW | {"epochs": 2, "top_epochs": 2}),
            Plan("from-scratch:lesson", FEW | {"epochs": 2, "filters": [8, 8, 8]}),
        ),
    )
