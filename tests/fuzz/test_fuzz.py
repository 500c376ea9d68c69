"""No bytes make a reader crash, hang, take memory without bound or raise what is no error of the project."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import fuzz_child
import pytest
from fuzz_targets import TARGETS
from mutations import mutated

ROOT = Path(__file__).parents[2]
COUNT = 150  # altered copies for each reader, a second or two
SECONDS = 20  # of atheris for each reader


def fuzz(target: str, folder: Path, how: str, amount: int, seconds: float) -> None:
    """Fuzz a target in a process of its own; fail with what it said and where the input is."""
    command = [sys.executable, fuzz_child.__file__, target, str(folder), how, str(amount)]
    search = os.pathsep.join((str(ROOT), str(Path(__file__).parent)))
    child = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": search},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    said = child.stdout.decode(errors="replace")[-3000:]
    assert child.returncode == 0, f"{target} ended with {child.returncode} on {folder / 'input'}:\n{said}"


@pytest.mark.parametrize("target", TARGETS)
def test_altered_copies_and_what_once_failed_are_read_or_refused(target, tmp_path):
    fuzz(target, tmp_path, "mutations", COUNT, seconds=110)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 100)
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed here")
@pytest.mark.parametrize("target", TARGETS)
def test_what_atheris_thinks_of_is_read_or_refused(target, tmp_path):
    fuzz(target, tmp_path, "atheris", SECONDS, seconds=SECONDS + 90)


def test_every_input_that_once_failed_belongs_to_a_target():
    found = [path.name.partition("-")[0] for path in fuzz_child.FOUND.iterdir()]
    assert found
    assert set(found) <= set(TARGETS)


def test_altered_copies_follow_from_their_number():
    seeds = [bytes(range(100)), b"another"]
    copies = [mutated(seeds, number, "target") for number in range(50)]
    assert copies == [mutated(seeds, number, "target") for number in range(50)]
    assert len(set(copies)) > 40


FAULTS = {
    "another exception": ("raise ValueError('odd')", "ValueError: odd"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "Segmentation fault"),
    "a hang": ("while True: pass", "Timeout"),
    "memory": ("import mmap; mmap.mmap(-1, 300 << 20)", "expected at most 268435456 bytes more"),
    "memory that is refused": ("bytearray(1 << 40)", "MemoryError"),
    "memory that is refused in words": (
        "try:\n    bytearray(1 << 40)\nexcept MemoryError:\n    raise DamagedFile('no memory') from None",
        "expected no MemoryError, found one behind another error",
    ),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_each_kind_of_fault_is_found_and_its_input_is_kept(tmp_path, fault, message):
    """A target of a single line, with a limit of one second."""
    lines = "\n".join(f"        {line}" for line in fault.splitlines())
    code = f"""
import sys
import fuzz_targets
from fuzz_child import main
from pathlib import Path
from pipeline.errors import DamagedFile

def faulty(place):
    def read(data):
        if data == b"seed":
            return
{lines}
    return fuzz_targets.Prepared(read, [b"seed"])

fuzz_targets.TARGETS["faulty"], fuzz_targets.TIME_LIMIT = faulty, 1
main("faulty", Path(sys.argv[1]), "mutations", 20)
"""
    search = os.pathsep.join((str(ROOT), str(Path(__file__).parent)))
    command = [sys.executable, "-c", code, str(tmp_path)]
    child = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": search}, capture_output=True, text=True, check=False
    )
    assert child.returncode != 0
    assert message in child.stderr
    assert (tmp_path / "input").read_bytes() != b"seed"
