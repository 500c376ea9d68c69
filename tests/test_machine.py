"""The description of the machine is correct, and names neither the host nor its users."""

from __future__ import annotations

import getpass
import json
import platform
import socket
from pathlib import Path

import numpy as np
import pytest

from pipeline import machine
from pipeline.errors import BadInput


@pytest.fixture(autouse=True)
def no_cached_precision():
    machine.native_bfloat16.cache_clear()
    yield
    machine.native_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("capability", "flags", "expected"),
    [
        (None, {"avx2", "fma"}, "float32"),
        (None, {"avx2", "avx512_bf16"}, "bfloat16"),
        (None, {"amx_bf16"}, "bfloat16"),
        (None, set(), "float32"),
        (7.5, {"avx512_bf16"}, "float32"),
        (8.0, set(), "bfloat16"),
    ],
)
def test_auto_precision_is_bfloat16_on_devices_that_support_it_natively(
    monkeypatch, capability, flags, expected
):
    monkeypatch.setattr(machine, "gpu_capability", lambda: capability)
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    assert machine.resolve_precision("auto") == expected


@pytest.mark.parametrize("precision", machine.PRECISIONS)
def test_an_explicit_precision_is_kept(precision):
    assert machine.resolve_precision(precision) == precision


def test_an_unknown_precision_is_refused_with_the_valid_ones():
    with pytest.raises(BadInput, match="unknown precision 'half': expected one of auto, bfloat16, float32"):
        machine.resolve_precision("half")


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the flags depend on the architecture",
)
def test_flags_are_read_from_the_system():
    assert {"fpu", "sse2", "lm"} <= machine.cpu_flags()


def test_a_machine_without_a_gpu_has_no_compute_capability(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert machine.gpu_capability() is None


def test_the_description_is_json_and_names_no_host_and_no_user():
    description = machine.describe()
    assert json.loads(json.dumps(description)) == description
    assert description["cores"] >= 1
    assert set(description) == {"system", "architecture", "processor", "cores", "native_bfloat16"}
    for name in (socket.gethostname(), getpass.getuser(), str(Path.home())):
        assert name not in description.values()
    assert set(map(type, description.values())) <= {str, int, bool}


def test_versions_include_every_package_that_a_result_depends_on():
    versions = machine.versions()
    assert versions["python"] == platform.python_version()
    assert {"tensorflow", "keras", "numpy", "h5py", "scikit-learn", "pandas", "luigi"} <= set(versions)
    assert all(version[0].isdigit() for version in versions.values())


def test_a_package_that_is_not_installed_is_left_out():
    assert set(machine.versions(["numpy", "no-such-package"])) == {"headstart", "python", "numpy"}


def test_peak_memory_is_in_megabytes_and_includes_allocated_memory():
    data = b"x" * 150_000_000
    assert len(data) / 1e6 < machine.peak_memory_mb() < 100_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system has no /proc")
def test_peak_memory_leaves_out_pages_of_mapped_files(tmp_path):
    path = tmp_path / "mapped"
    path.write_bytes(bytes(150_000_000))
    before = machine.peak_memory_mb()
    mapped = np.memmap(path, np.uint8, "r")
    assert not mapped.any()  # reads every page
    assert machine.peak_memory_mb() < before + 75
