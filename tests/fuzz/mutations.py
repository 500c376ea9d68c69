"""Mutated copies of valid files, as from damage or an attack; each is determined by its number."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

EDGES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    1 << 62,
    (1 << 64) - 1,
)
TEXTS = (
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"9" * 30,
    b"9" * 5000,
    b"\\ud800",
    b"\\u0000",
    b"[" * 9999,
)


def mutate(seeds: Sequence[bytes], number: int, name: str) -> bytes:
    """Return mutation number `number` of one of the seeds; name makes it different for each target."""
    rng = random.Random(f"{name}/{number}")
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(MUTATORS)(data, rng, seeds)
    return bytes(data)


def flip_bits(data: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def set_bytes(data: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 2, 16)) if data else 0):
        data[rng.randrange(len(data))] = rng.randrange(256)


def truncate(data: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def delete_bytes(data: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    start, length = rng.randrange(len(data) + 1), rng.choice((1, 4, 16, 512))
    del data[start : start + length]


def repeat_bytes(data: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    start, length = rng.randrange(len(data) + 1), rng.choice((1, 4, 16, 512))
    data[start:start] = data[start : start + length] * rng.choice((1, 1, 7))


def splice(data: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other)) :]


def edit_number(data: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    """Write an edge-case integer of 1 to 8 bytes, in either byte order, where a length may be stored."""
    size = rng.choice((1, 2, 4, 8))
    start = rng.randrange(max(1, len(data) - size + 1))
    edge = (rng.choice(EDGES) + rng.choice((0, 0, -1, 1))) % (1 << 8 * size)
    data[start : start + size] = edge.to_bytes(size, rng.choice(("little", "big")))


def insert_text(data: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    """Replace a few bytes by text that is difficult to parse."""
    start = rng.randrange(len(data) + 1)
    data[start : start + rng.choice((0, 1, 2, 4, 8))] = rng.choice(TEXTS)


MUTATORS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    flip_bits,
    set_bytes,
    truncate,
    delete_bytes,
    repeat_bytes,
    splice,
    edit_number,
    edit_number,
    insert_text,
)
