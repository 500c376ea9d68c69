"""Altered copies of valid files, as damage and malice alter them; each follows from its number alone."""

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


def mutated(seeds: Sequence[bytes], number: int, name: str) -> bytes:
    """Return the altered copy of that number of one of the seeds; name makes it another for each target."""
    chance = random.Random(f"{name}/{number}")
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice(MUTATORS)(data, chance, seeds)
    return bytes(data)


def flip_bits(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    for _ in range(chance.choice((1, 1, 2, 8)) if data else 0):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def set_bytes(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    for _ in range(chance.choice((1, 2, 16)) if data else 0):
        data[chance.randrange(len(data))] = chance.randrange(256)


def truncate(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    del data[chance.randrange(len(data) + 1) :]


def leave_out(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    start, length = chance.randrange(len(data) + 1), chance.choice((1, 4, 16, 512))
    del data[start : start + length]


def repeat(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    start, length = chance.randrange(len(data) + 1), chance.choice((1, 4, 16, 512))
    data[start:start] = data[start : start + length] * chance.choice((1, 1, 7))


def splice(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other)) :]


def edit_number(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    """Put a number at the edge of a range where a length may be: of 1 to 8 bytes, in either order."""
    size = chance.choice((1, 2, 4, 8))
    start = chance.randrange(max(1, len(data) - size + 1))
    edge = (chance.choice(EDGES) + chance.choice((0, 0, -1, 1))) % (1 << 8 * size)
    data[start : start + size] = edge.to_bytes(size, chance.choice(("little", "big")))


def insert_text(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    """Put what a parser of texts may stumble over in place of a few bytes."""
    start = chance.randrange(len(data) + 1)
    data[start : start + chance.choice((0, 1, 2, 4, 8))] = chance.choice(TEXTS)


MUTATORS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    flip_bits,
    set_bytes,
    truncate,
    leave_out,
    repeat,
    splice,
    edit_number,
    edit_number,
    insert_text,
)
