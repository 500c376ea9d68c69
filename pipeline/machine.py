"""Properties of this machine: processor features, the fastest precision, versions, memory."""

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.errors import unknown_name

PRECISIONS = ("float32", "bfloat16")
NATIVE_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
NATIVE_BFLOAT16_CAPABILITY = 8.0  # NVIDIA GPUs compute in bfloat16 from Ampere (8.0) on
ROUNDING_FLAGS = ("sse4", "avx", "fma", "f16c", "amx")  # starts of the names of flags that select kernels
RECORDED_PACKAGES = (
    *("tensorflow", "openvino", "torch", "keras", "numpy", "h5py"),
    *("pillow", "scikit-learn", "pandas", "luigi"),
)


def resolve_precision(precision: str) -> str:
    """Return "float32" or "bfloat16"; "auto" means bfloat16 if the machine supports it natively.

    Otherwise bfloat16 is emulated and slower than float32. Queries the operating system, not TensorFlow, so
    that a graph can be planned without importing TensorFlow. Raises BadInput for any other value.
    """
    if precision == "auto":
        return "bfloat16" if native_bfloat16() else "float32"
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, ("auto", *PRECISIONS))
    return precision


@functools.lru_cache(maxsize=1)
def native_bfloat16() -> bool:
    """Return whether the device that TensorFlow will use multiplies bfloat16 matrices natively."""
    if (capability := gpu_capability()) is not None:
        return capability >= NATIVE_BFLOAT16_CAPABILITY
    return bool(NATIVE_BFLOAT16_FLAGS & cpu_flags())


def cpu_flags() -> set[str]:
    """Return the instruction-set flags of the first processor on Linux; an empty set on other systems."""
    return set(_read_field("/proc/cpuinfo", "flags").split())


def uses_amx() -> bool:
    """Return whether oneDNN multiplies bfloat16 matrices by AMX, which ONEDNN_MAX_CPU_ISA can forbid."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "default").lower()
    return "amx_bf16" in cpu_flags() and (limit == "default" or "amx" in limit)


def gpu_capability() -> float | None:
    """Return the lowest compute capability of the GPUs, None without a GPU or the CUDA libraries."""
    if not Path("/dev/nvidiactl").exists() or importlib.util.find_spec("nvidia") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return min(float(line) for line in output.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def describe() -> dict[str, Any]:
    """Return the description of the machine that runs record; plain values, no host or user names."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _read_field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": usable_cores(),
        "native_bfloat16": native_bfloat16(),
    }


def traits() -> dict[str, Any]:
    """Return what the last bits of features depend on: processor features, GPU and library versions."""
    flags = dict.fromkeys(sorted(flag for flag in cpu_flags() if flag.startswith(ROUNDING_FLAGS)), True)
    return {"processor": {platform.machine(): True, **flags}, "GPU": gpu_capability(), **versions()}


def usable_cores() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(packages: Sequence[str] = RECORDED_PACKAGES) -> dict[str, str]:
    """Return the versions of Headstart, Python and the installed ones of packages that results depend on."""
    result = {"headstart": __version__, "python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            result[package] = importlib.metadata.version(package)
    return result


def total_memory_bytes() -> int | None:
    """Return the memory of this machine in bytes, None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def peak_memory_mb() -> float:
    """Return the peak resident set size of this process so far, in units of 10^6 bytes.

    On Linux, getrusage includes the memory of the process that started this one, so the high-water mark in
    /proc is used if it exists, without the pages of files that are mapped now: they make room when needed.
    """
    import resource

    if peak := _read_field("/proc/self/status", "VmHWM"):
        mapped = _read_field("/proc/self/status", "RssFile") or "0 kB"
        return (int(peak.removesuffix("kB")) - int(mapped.removesuffix("kB"))) * 1024 / 1e6
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if platform.system() == "Darwin" else used * 1024 / 1e6


def allow_open_files(count: int) -> None:
    """Raise this process's limit of open files, up to the system's, so that count more can be open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _read_field(path: str, name: str) -> str:
    """Return the value of the first line `name: value` in a file below /proc; "" if there is none."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
