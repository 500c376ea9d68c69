"""What this machine is: processor features, the precision that suits it, versions, memory."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.errors import unknown_name

PRECISIONS = ("float32", "bfloat16")
NATIVE_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
NATIVE_BFLOAT16_CAPABILITY = 8.0  # NVIDIA GPUs compute in bfloat16 from Ampere (8.0) on
RECORDED_PACKAGES = ("tensorflow", "keras", "numpy", "h5py", "scikit-learn", "pandas", "luigi")


def resolve_precision(wanted: str) -> str:
    """Return "float32" or "bfloat16"; "auto" takes bfloat16 where the machine computes in it natively.

    Elsewhere bfloat16 is emulated and slower than float32. Asks the operating system, never TensorFlow,
    so that a graph can be planned without loading it. Raises BadInput for another word.
    """
    if wanted == "auto":
        return "bfloat16" if native_bfloat16() else "float32"
    if wanted not in PRECISIONS:
        raise unknown_name("precision", wanted, ("auto", *PRECISIONS))
    return wanted


@functools.lru_cache(maxsize=1)
def native_bfloat16() -> bool:
    """Say whether the device that TensorFlow will use multiplies bfloat16 matrices natively."""
    capability = gpu_capability()
    if capability is not None:
        return capability >= NATIVE_BFLOAT16_CAPABILITY
    return bool(NATIVE_BFLOAT16_FLAGS & cpu_flags())


def cpu_flags() -> set[str]:
    """Return the instruction-set flags that Linux lists for the first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set())


def gpu_capability() -> float | None:
    """Return the lowest compute capability of the GPUs that TensorFlow can use, None without one.

    A GPU counts only where the CUDA libraries that TensorFlow needs are installed beside it.
    """
    if not Path("/dev/nvidiactl").exists() or importlib.util.find_spec("nvidia") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return min(float(line) for line in answer.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def describe() -> dict[str, Any]:
    """Return what a run's record says of the machine; plain values, without names of hosts or people."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor_name(),
        "cores": usable_cores(),
        "native_bfloat16": native_bfloat16(),
    }


def usable_cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result can depend on."""
    found = {"headstart": __version__, "python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def total_memory_bytes() -> int | None:
    """Return how much memory this machine has, None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def peak_memory_mb() -> float:
    """Return the largest resident set of this process so far, in units of 10^6 bytes.

    Linux counts the memory of the process that started this one into getrusage's figure, so its own
    high-water mark is read where /proc shows it.
    """
    import resource

    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if platform.system() == "Darwin" else peak * 1024 / 1e6


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")
