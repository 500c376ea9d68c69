"""One target in a process of its own, which a crash, a hang or a bound of memory may end.

    python fuzz_child.py TARGET FOLDER mutations COUNT
    python fuzz_child.py TARGET FOLDER atheris SECONDS

Both read the target's seeds, which must be valid, and every input in found/ on which it once failed; then
the one reads COUNT altered copies, the same in every run, and the other what atheris thinks of. The input
that is being read is FOLDER/input when the process ends early. What libraries say is not shown.
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

FOUND = Path(__file__).parent / "found"
RESIDENT_LIMIT_MB = 1500  # of atheris with its own tables


def main(name: str, folder: Path, how: str, amount: int) -> None:
    """Fuzz one target; ends with another exit code than 0 where something was found."""
    os.fsync = lambda _: None  # nothing here has to outlive a power cut
    faulthandler.enable()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    if how == "atheris":
        import atheris

        with atheris.instrument_imports(
            include=["pipeline", "PIL", "pickle", "pickletools", "tarfile", "gzip"]
        ):
            once, seeds = prepared(name, folder)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
        limits = [f"-max_total_time={amount}", f"-rss_limit_mb={RESIDENT_LIMIT_MB}", "-timeout=10"]
        options = [*limits, "-max_len=65536", "-seed=1", f"-artifact_prefix={folder}/", str(corpus)]
        atheris.Setup([sys.argv[0], *options], lambda data: once(bytes(data)))
        atheris.Fuzz()
        return
    from mutations import mutated

    once, seeds = prepared(name, folder)
    for number in range(amount):
        once(mutated(seeds, number, name))


def prepared(name: str, folder: Path) -> tuple[Callable[[bytes], None], list[bytes]]:
    """Return a function that reads one input under all limits, and the seeds, which were read already."""
    from fuzz_targets import MEMORY_LIMIT, TARGETS, TIME_LIMIT

    from pipeline.errors import HeadstartError

    (folder / "place").mkdir()
    read, seeds = TARGETS[name](folder / "place")
    for seed in seeds:
        read(seed)
    gc.collect()
    _limit_address_space(4 * MEMORY_LIMIT)

    def once(data: bytes) -> None:
        (folder / "input").write_bytes(data)
        before, peak = _kilobytes("VmSize"), _kilobytes("VmPeak")
        faulthandler.dump_traceback_later(TIME_LIMIT, exit=True)
        try:
            read(data)
        except HeadstartError as error:
            _refuse_hidden(MemoryError, error)
        finally:
            faulthandler.cancel_dump_traceback_later()
        grown = (_kilobytes("VmPeak") - before) * 1024
        if grown > MEMORY_LIMIT and _kilobytes("VmPeak") > peak:
            raise AssertionError(f"expected at most {MEMORY_LIMIT} bytes more, found {grown}")

    for path in sorted(FOUND.glob(f"{name}-*")):
        once(path.read_bytes())
    return once, list(seeds)


def _refuse_hidden(kind: type[Exception], error: BaseException | None) -> None:
    """Raise where an error of a kind lies behind one that explains it; only a bound of ours stopped it."""
    while error:
        if isinstance(error, kind):
            raise AssertionError(f"expected no {kind.__name__}, found one behind another error") from error
        error = error.__cause__ or error.__context__


def _limit_address_space(more: int) -> None:
    size = _kilobytes("VmSize") * 1024
    if size:
        resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.RLIM_INFINITY))


def _kilobytes(field: str) -> int:
    """Return a field of this process's state as Linux tells it, 0 elsewhere."""
    try:
        state = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(state.partition(f"{field}:")[2].split()[0])


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
