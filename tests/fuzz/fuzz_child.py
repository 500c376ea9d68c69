"""Fuzz one target in its own process, which a crash, a hang or a memory limit can end.

    python fuzz_child.py TARGET FOLDER mutations COUNT
    python fuzz_child.py TARGET FOLDER atheris SECONDS

Both read the target's seeds, which must be valid, and all inputs in found/ on which it failed before. Then
the first reads COUNT mutations, the same in every run, and the second reads inputs from atheris. If the
process ends early, FOLDER/input is the input that it was reading. Output of libraries is suppressed.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

FAILED_INPUTS = Path(__file__).parent / "found"
RESIDENT_LIMIT_MB = 1500  # of atheris, including its own tables


def main(name: str, folder: Path, engine: str, amount: int) -> None:
    """Fuzz one target; the process exits with a nonzero code on a failure."""
    os.fsync = lambda _: None  # durability does not matter here
    faulthandler.enable()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    if engine == "atheris":
        import atheris

        with atheris.instrument_imports(
            include=["pipeline", "PIL", "pickle", "pickletools", "tarfile", "gzip"]
        ):
            read_one, seeds = prepare(name, folder)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
        limits = [f"-max_total_time={amount}", f"-rss_limit_mb={RESIDENT_LIMIT_MB}", "-timeout=10"]
        options = [*limits, "-max_len=65536", "-seed=1", f"-artifact_prefix={folder}/", str(corpus)]
        atheris.Setup([sys.argv[0], *options], lambda data: read_one(bytes(data)))
        atheris.Fuzz()
        return
    from mutations import mutate

    read_one, seeds = prepare(name, folder)
    for number in range(amount):
        read_one(mutate(seeds, number, name))


def prepare(name: str, folder: Path) -> tuple[Callable[[bytes], None], list[bytes]]:
    """Read all seeds and failed inputs; return a function that reads one input, and the seeds."""
    from fuzz_targets import MEMORY_LIMIT, TARGETS, TIME_LIMIT

    from pipeline.errors import HeadstartError

    (folder / "root").mkdir()
    read, seeds = TARGETS[name](folder / "root")
    for seed in seeds:
        read(seed)
    gc.collect()
    _limit_address_space(4 * MEMORY_LIMIT)

    def read_one(data: bytes) -> None:
        (folder / "input").write_bytes(data)
        before, peak = _kilobytes("VmSize"), _kilobytes("VmPeak")
        faulthandler.dump_traceback_later(TIME_LIMIT, exit=True)
        try:
            read(data)
        except HeadstartError as error:
            _check_causes(MemoryError, error)
        finally:
            faulthandler.cancel_dump_traceback_later()
        grown = (_kilobytes("VmPeak") - before) * 1024
        if grown > MEMORY_LIMIT and _kilobytes("VmPeak") > peak:
            raise AssertionError(f"expected growth by at most {MEMORY_LIMIT} bytes, found {grown}")

    for path in sorted(FAILED_INPUTS.glob(f"{name}-*")):
        read_one(path.read_bytes())
    return read_one, list(seeds)


def _check_causes(kind: type[Exception], error: BaseException | None) -> None:
    """Raise AssertionError if an error has a cause of a type that only our limits can raise."""
    while error:
        if isinstance(error, kind):
            raise AssertionError(f"expected no {kind.__name__}, found it as a cause") from error
        error = error.__cause__ or error.__context__


def _limit_address_space(extra: int) -> None:
    size = _kilobytes("VmSize") * 1024
    if size:
        resource.setrlimit(resource.RLIMIT_AS, (size + extra, resource.RLIM_INFINITY))


def _kilobytes(field: str) -> int:
    """Return a field of /proc/self/status, 0 on systems without it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.partition(f"{field}:")[2].split()[0])


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
