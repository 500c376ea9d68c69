"""Pickles are read as plain data: anything else is refused before it can run."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pipeline.download.pickles import MAX_OPERATIONS, load_plain
from pipeline.errors import DamagedFile

ROOT = Path(__file__).parents[2]
LIMIT = 1 << 20

# As Python 2 writes them.
START = b"\x80\x02"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
NDARRAY = b"cnumpy\nndarray\n"
UINT8 = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
EMPTY_ARRAY = RECONSTRUCT + NDARRAY + b"K\x00\x85U\x01b\x87R"


def array_pickle(shape: bytes, raw: bytes, dtype: bytes = UINT8, order: bytes = b"\x89") -> bytes:
    """Return the operations that create an array; shape is a sequence of operations."""
    return EMPTY_ARRAY + b"(K\x01" + shape + dtype + order + b"T" + struct.pack("<i", len(raw)) + raw + b"tb"


def long_integer(number: int) -> bytes:
    """Return the operation LONG1, which pickles use for integers of more than 31 bits."""
    return b"\x8a\x06" + number.to_bytes(6, "little")


def test_a_pickle_of_python_2_with_an_array_is_read():
    content = START + b"}U\x04data" + array_pickle(b"K\x02K\x03\x86", b"abcdef") + b"s."
    loaded = load_plain(content, LIMIT)
    assert list(loaded) == [b"data"]
    np.testing.assert_array_equal(loaded[b"data"], [[97, 98, 99], [100, 101, 102]])
    assert loaded[b"data"].dtype == np.uint8


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_pickle_of_the_installed_numpy_is_read(protocol):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    content = pickle.dumps({"labels": [1, 2], "data": None}, protocol=protocol)
    assert load_plain(content, LIMIT) == {"labels": [1, 2], "data": None}
    np.testing.assert_array_equal(load_plain(pickle.dumps(pixels, protocol=3), LIMIT), pixels)


def test_a_pickle_with_as_many_operations_as_the_training_images_of_cifar100_is_read():
    numbers = range(50_000)
    content = {
        b"filenames": [f"{number}_s_000001.png".encode() for number in numbers],
        b"batch_label": b"training batch 1 of 1",
        b"fine_labels": [number % 100 for number in numbers],
        b"coarse_labels": [number % 20 for number in numbers],
        b"data": np.arange(3, dtype=np.uint8),
    }
    data = pickle.dumps(content, protocol=3)
    assert 200_362 <= sum(1 for _ in pickletools.genops(data)) <= MAX_OPERATIONS
    loaded = load_plain(data, len(data))
    assert {**loaded, b"data": None} == {**content, b"data": None}


class Command:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_fault_06_a_pickle_that_calls_os_system_is_refused_without_side_effect(tmp_path, protocol):
    trace = tmp_path / "trace"
    content = pickle.dumps({"data": Command(os.system, f"touch {trace}")}, protocol=protocol)
    with pytest.raises(DamagedFile, match="system|expected plain data only"):
        load_plain(content, LIMIT)
    assert not trace.exists()


OTHER_GLOBALS = [
    "builtins eval",
    "os system",
    "numpy load",
    "numpy ndarray.__new__",
    "numpy._core _reconstruct",
]


@pytest.mark.parametrize("name", OTHER_GLOBALS)
def test_fault_06_every_other_global_is_named_and_refused(name):
    module, attribute = name.split()
    with pytest.raises(DamagedFile, match=f"requests '{module}.{attribute}'; only numpy"):
        load_plain(START + f"c{module}\n{attribute}\n.".encode(), LIMIT)


def test_fault_06_a_shape_of_a_trillion_elements_takes_no_memory():
    shape = b"(" + b"J\x40\x42\x0f\x00" * 2 + b"t"  # (1000000, 1000000)
    assert_refused(array_pickle(shape, b"abcdef"), "expected 1000000000000 bytes, found 6")
    assert_refused(array_pickle(b"(" + long_integer(10**12) + b"t", b"abcdef"), "operation LONG1")


MALICIOUS = {
    "a huge shape for _reconstruct": (
        RECONSTRUCT + NDARRAY + b"J\xff\xff\xff\x7f\x85U\x01b\x87R",
        "creates an array",
    ),
    "another class for _reconstruct": (RECONSTRUCT + b"NK\x00\x85U\x01b\x87R", "creates an array from"),
    "ndarray called directly": (NDARRAY + b"J\xff\xff\xff\x7f\x85\x85R", "not callable"),
    "another dtype": (b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R", "dtype b'O8', expected uint8"),
    "a structured dtype": (UINT8.replace(b"|NNN", b"|N)}"), "structured dtype"),
    "no dtype": (array_pickle(b"K\x06\x85", b"abcdef", dtype=b"N"), "not uint8 in C order"),
    "Fortran order": (array_pickle(b"K\x06\x85", b"abcdef", order=b"\x88"), "in C order"),
    "a negative shape": (
        array_pickle(b"J\xfe\xff\xff\xffJ\xfd\xff\xff\xff\x86", b"abcdef"),
        "positive integers",
    ),
    "an empty axis": (array_pickle(b"K\x00J\xff\xff\xff\x7f\x86", b""), "positive integers"),
    "a shape that is not a tuple": (array_pickle(b"]", b"abcdef"), r"shape \[\], expected positive integers"),
    "a state of the wrong length": (EMPTY_ARRAY + b"(K\x01tb", "not enough values"),
    "a huge LONG_BINPUT": (b"Nr\xff\xff\xff\x7f", "stores object number 2147483647"),
    "a huge PUT": (b"Np2147483647\n", "operation PUT"),
    "LONG_BINGET": (b"Nr\x01\x00\x00\x00j\x01\x00\x00\x00", "operation LONG_BINGET"),
    "lists of lists by reference": (b"]q\x00(" + b"h\x00" * 9 + b"e", "operation BINGET"),
    "duplicated objects": (b"N2", "operation DUP"),
    "an instance": (b"(cnumpy\nndarray\no", "operation OBJ"),
    "a persistent id": (b"NQ", "operation BINPERSID"),
    "a bytearray of 2**62 bytes": (
        b"\x96" + struct.pack("<Q", 1 << 62),
        "expected 4611686018427387904 bytes",
    ),
    "a string of 2 GB": (b"T\xff\xff\xff\x7fabc", "expected 2147483647 bytes"),
    "nested tuples": (b")" + b"\x85" * 1000, "100 tuples"),
    "too many lists": (b"]" * (MAX_OPERATIONS + 1), f"{MAX_OPERATIONS} operations"),
    "a function given attributes": (RECONSTRUCT + b"N}X\x04\x00\x00\x00nameNs\x86b", "no attribute"),
    "a class given attributes": (NDARRAY + b"N}X\x04\x00\x00\x00nameNs\x86b", "no attribute"),
    "a class given a __dict__": (NDARRAY + b"}U\x04nameNsb", "__dict__"),
}


@pytest.mark.parametrize(("operations", "reason"), MALICIOUS.values(), ids=MALICIOUS)
def test_fault_06_malicious_operations_are_refused_with_bounded_memory(operations, reason):
    assert_refused(operations, reason)


def assert_refused(operations: bytes, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFile, match=reason):
            load_plain(START + operations + b".", LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_pickle_longer_than_the_limit_is_refused_without_reading_it():
    with pytest.raises(DamagedFile, match="pickle of 100 bytes: expected at most 99"):
        load_plain(bytes(100), 99)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x02}", b"\x80\x02.", b"\x80\x63N.", b"\x80\x02h"])
def test_what_is_not_a_pickle_is_a_damaged_file(content):
    with pytest.raises(DamagedFile, match="pickle"):
        load_plain(content, LIMIT)
