"""Pickles are read as plain data: anything else is refused before it can run."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.download.pickles import load_plain
from pipeline.errors import DamagedFile
from pipeline.machine import peak_memory_mb

ROOT = Path(__file__).parents[2]
# As Python 2 writes them.
START = b"\x80\x02"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
NDARRAY = b"cnumpy\nndarray\n"
UINT8 = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
EMPTY_ARRAY = RECONSTRUCT + NDARRAY + b"K\x00\x85U\x01b\x87R"


def array_pickle(shape: bytes, raw: bytes, dtype: bytes = UINT8, order: bytes = b"\x89") -> bytes:
    """Return the operations that create an array; shape is a sequence of operations."""
    return EMPTY_ARRAY + b"(K\x01" + shape + dtype + order + b"T" + struct.pack("<i", len(raw)) + raw + b"tb"


def test_a_pickle_of_python_2_with_an_array_is_read():
    content = START + b"}U\x04data" + array_pickle(b"K\x02K\x03\x86", b"abcdef") + b"s."
    loaded = load_plain(content)
    assert list(loaded) == [b"data"]
    np.testing.assert_array_equal(loaded[b"data"], [[97, 98, 99], [100, 101, 102]])
    assert loaded[b"data"].dtype == np.uint8


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_pickle_of_the_installed_numpy_is_read(protocol):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    content = pickle.dumps({"labels": [1, 2], "data": None}, protocol=protocol)
    assert load_plain(content) == {"labels": [1, 2], "data": None}
    np.testing.assert_array_equal(load_plain(pickle.dumps(pixels, protocol=3)), pixels)


class Command:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_fault_06_a_pickle_that_calls_os_system_is_refused_without_side_effect(tmp_path, protocol):
    trace = tmp_path / "trace"
    content = pickle.dumps({"data": Command(os.system, f"touch {trace}")}, protocol=protocol)
    with pytest.raises(DamagedFile, match="system"):
        load_plain(content)
    assert not trace.exists()


OTHER_GLOBALS = [
    "builtins eval",
    "os system",
    "numpy load",
    "numpy ndarray.__new__",
    "numpy.core.multiarray fromfile",
    "numpy._core _reconstruct",
]


@pytest.mark.parametrize("name", OTHER_GLOBALS)
def test_fault_06_every_other_global_is_named_and_refused(name):
    module, attribute = name.split()
    with pytest.raises(DamagedFile, match=f"requests '{module}.{attribute}'; only numpy"):
        load_plain(START + f"c{module}\n{attribute}\n.".encode())


@pytest.mark.parametrize("operations", [b"Nr\xff\xff\xff\x7f", b"Np2147483647\n"])
def test_fault_06_a_huge_object_number_is_refused(operations):
    with pytest.raises(DamagedFile, match="object number 2147483647"):
        load_plain(START + operations + b".")


@pytest.mark.parametrize("shape", [b"(" + b"J\x40\x42\x0f\x00" * 2 + b"t", b"J\xff\xff\xff\x7f\x85"])
def test_fault_06_an_array_larger_than_its_bytes_is_refused_without_filling_memory(shape):
    before = peak_memory_mb()
    with pytest.raises(DamagedFile):
        load_plain(START + array_pickle(shape, b"abcdef") + b".")
    assert peak_memory_mb() < before + 16


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x02}", b"\x80\x02.", b"\x80\x63N.", b"\x80\x02h"])
def test_what_is_not_a_pickle_is_a_damaged_file(content):
    with pytest.raises(DamagedFile, match="pickle"):
        load_plain(content)
