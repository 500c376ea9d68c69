"""Small archives of the form of CIFAR, and the rows that describe them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

from pipeline.download.cifar import ARCHIVES, Archive, Member

OTHER_KEYS = {b"batch_label": b"batch 1 of 1"}  # of members with images; not read


def small_row(name: str, members: dict[str, bytes], per_batch: int) -> Archive:
    """Return the row of a data set with other members; each 10,000 images become per_batch."""
    row = ARCHIVES[name]

    def small(member: Member) -> Member:
        data = members[member.name]
        digest = hashlib.new(row.algorithm, data).hexdigest()
        return Member(member.name, len(data), digest, member.images * per_batch // 10_000)

    return dataclasses.replace(row, members=tuple(map(small, row.members)))


def small_members(name: str, per_batch: int) -> dict[str, bytes]:
    """Return members with random pixels; the image n of a member has the label n % classes and a name."""
    row, draws = ARCHIVES[name], np.random.default_rng(0)
    *batches, meta = row.members
    members = {}
    for batch in batches:
        numbers = range(batch.images * per_batch // 10_000)
        content = {
            **OTHER_KEYS,
            b"data": draws.integers(0, 256, (len(numbers), 3072), dtype=np.uint8),
            b"coarse_labels": [number % 7 for number in numbers],
            row.labels: [number % row.classes for number in numbers],
            b"filenames": [f"{batch.name}_{number}.png".encode() for number in numbers],
        }
        members[batch.name] = pickle.dumps(content, protocol=3)
    coarse, fine = ([f"{kind} {n}".encode() for n in range(row.classes)] for kind in ("group", "class"))
    class_names = {b"coarse_label_names": coarse, row.class_names: fine}
    members[meta.name] = pickle.dumps(class_names, protocol=3)
    return members


def write_archive(path: Path, name: str, members: dict[str, bytes]) -> Path:
    """Write the archive of a data set with other members, and return its path."""
    with tarfile.open(path, "w:gz") as archive:
        for member, data in members.items():
            header = tarfile.TarInfo(f"{ARCHIVES[name].folder}/{member}")
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path
