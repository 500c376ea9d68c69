"""Functions that behave and misbehave in a child; run as a script, this serves them as children.py would."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from pipeline import children
from pipeline.errors import DamagedFile, HeadstartError


class PrivateError(HeadstartError):
    """An error of a kind that pipeline.errors does not list."""


def add(first, second, progress):
    return {"sum": first + second, "text": "é", "pid": os.getpid()}


def report(progress):
    for done in range(3):
        progress("count", done, 3, "sheep")


def chatter(progress):
    print("printed by Python")
    print('{"result": "not the answer"}')
    print('{"progress": ["not", "a", "report", "!"]}')
    subprocess.run(["echo", '{"result": "printed by another program"}'], check=True)
    os.write(1, b'{"result": "written to the descriptor"}\n')
    return "the answer"


def log(progress):
    logging.getLogger("pipeline.somewhere").warning("took %d %% — é", 50)
    logging.getLogger("pipeline.somewhere").debug("a detail")
    logging.getLogger("another.library").warning("not ours")


def fail_in_words(progress):
    raise DamagedFile("a.h5: expected 7 rows, found 6 — é")


def fail_in_private_words(progress):
    raise PrivateError("in words all the same")


def fail(progress):
    raise ZeroDivisionError("a traceback says where")


def return_what_is_not_plain(progress):
    return {1, 2}


def die_of(number, progress):
    print("last words", file=sys.stderr)
    os.kill(os.getpid(), number)
    time.sleep(60)


def end_without_result(code, progress):
    os._exit(code)


def end_after_reports(progress):
    progress("count", 1, 3, "sheep")
    os._exit(0)


def sleep(noted, progress):
    """Note the number of this process, then stay."""
    scratch = Path(noted).with_suffix(".scratch")
    scratch.write_text(str(os.getpid()))
    scratch.replace(noted)
    time.sleep(60)


def report_and_sleep(noted, progress):
    Path(noted).write_text(str(os.getpid()))
    report(progress)
    time.sleep(60)


def process_is_alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    children.ALLOWED_PACKAGES = ("functions_in_child:",)
    os._exit(children._serve())
