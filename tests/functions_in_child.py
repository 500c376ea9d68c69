"""Functions that succeed or fail in a child process; run as a script, this serves them like children.py."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from pipeline import children
from pipeline.errors import DamagedFile, HeadstartError


class PrivateError(HeadstartError):
    """An error type that pipeline.errors does not define."""


def add(first, second, progress):
    return {"sum": first + second, "text": "é", "pid": os.getpid()}


def optimized(progress):
    return sys.flags.optimize


def solve(progress):
    """Return a digest of the bits of sums that BLAS splits among its threads, and sums in its own order."""
    import numpy as np

    values = np.random.default_rng(0).normal(size=(1000, 256)).astype(np.float32)
    products = values.T @ values
    solved = np.linalg.solve(products + np.eye(256, dtype=np.float32), values.T)
    return hashlib.sha256(products.tobytes() + solved.tobytes()).hexdigest()


def report(progress):
    for done in range(3):
        progress("count", done, 3, "sheep")


def print_noise(progress):
    print("printed by Python")
    print('{"result": "not the result"}')
    print('{"progress": ["not", "a", "report", "!"]}')
    subprocess.run(["echo", '{"result": "printed by another program"}'], check=True)
    os.write(1, b'{"result": "written to the file descriptor"}\n')
    return "the result"


def log(progress):
    logging.getLogger("pipeline.somewhere").warning("took %d %% — é", 50)
    logging.getLogger("pipeline.somewhere").debug("a detail")
    logging.getLogger("another.library").warning("not ours")


def raise_damaged_file(progress):
    raise DamagedFile("a.h5: expected 7 rows, found 6 — é")


def raise_private_error(progress):
    raise PrivateError("a readable message")


def raise_zero_division(progress):
    raise ZeroDivisionError("a traceback shows where")


def return_a_set(progress):
    return {1, 2}


def kill_itself(number, progress):
    print("last output", file=sys.stderr)
    os.kill(os.getpid(), number)
    time.sleep(60)


def end_without_result(code, progress):
    os._exit(code)


def end_after_reports(progress):
    progress("count", 1, 3, "sheep")
    os._exit(0)


def sleep(pid_file, progress):
    """Write the id of this process to pid_file, then sleep."""
    scratch = Path(pid_file).with_suffix(".scratch")
    scratch.write_text(str(os.getpid()))
    scratch.replace(pid_file)
    time.sleep(60)


def report_and_sleep(pid_file, progress):
    Path(pid_file).write_text(str(os.getpid()))
    report(progress)
    time.sleep(60)


def process_is_alive(pid: int) -> bool:
    """Return whether a process is running; zombies are not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    children.ALLOWED_PACKAGES = ("functions_in_child:",)
    os._exit(children._serve())
