"""No input makes a reader crash, hang, use unbounded memory or raise an error of another project."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import fuzz_child
import pytest
from fuzz_targets import TARGETS
from mutations import mutate

ROOT = Path(__file__).parents[2]
COUNT = 150  # mutations for each reader, a second or two
SECONDS = 20  # of fuzzing with atheris for each reader


def fuzz(target: str, folder: Path, engine: str, amount: int, seconds: float) -> None:
    """Fuzz a target in its own process; fail with its output and the path of the input."""
    command = [sys.executable, fuzz_child.__file__, target, str(folder), engine, str(amount)]
    python_path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "fuzz")))
    child = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": python_path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    output = child.stdout.decode(errors="replace")[-3000:]
    assert child.returncode == 0, f"{target} ended with {child.returncode} on {folder / 'input'}:\n{output}"


@pytest.mark.parametrize("target", TARGETS)
def test_mutations_and_inputs_that_failed_before_are_read_or_refused(target, tmp_path):
    fuzz(target, tmp_path, "mutations", COUNT, seconds=110)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 100)
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed")
@pytest.mark.parametrize("target", TARGETS)
def test_inputs_from_atheris_are_read_or_refused(target, tmp_path):
    fuzz(target, tmp_path, "atheris", SECONDS, seconds=SECONDS + 90)


def test_every_failed_input_belongs_to_a_target():
    names = [path.name.partition("-")[0] for path in fuzz_child.FAILED_INPUTS.iterdir()]
    assert names
    assert set(names) <= set(TARGETS)


def test_a_mutation_is_determined_by_its_number():
    seeds = [bytes(range(100)), b"another"]
    copies = [mutate(seeds, number, "target") for number in range(50)]
    assert copies == [mutate(seeds, number, "target") for number in range(50)]
    assert len(set(copies)) > 40


FAULTS = {
    "another exception": ("raise ValueError('odd')", "ValueError: odd"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "Segmentation fault"),
    "a hang": ("while True: pass", "Timeout"),
    "memory": ("import mmap; mmap.mmap(-1, 300 << 20)", "expected growth by at most 268435456 bytes"),
    "a refused allocation": ("bytearray(1 << 40)", "MemoryError"),
    "a refused allocation behind an error message": (
        "try:\n    bytearray(1 << 40)\nexcept MemoryError:\n    raise DamagedFile('no memory') from None",
        "expected no MemoryError, found it as a cause",
    ),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_each_kind_of_fault_is_detected_and_its_input_is_kept(tmp_path, fault, message):
    """The target is a single line with a time limit of one second."""
    lines = "\n".join(f"        {line}" for line in fault.splitlines())
    code = f"""
import sys
import fuzz_targets
from fuzz_child import main
from pathlib import Path
from pipeline.errors import DamagedFile

def faulty(root):
    def read(data):
        if data == b"seed":
            return
{lines}
    return fuzz_targets.Prepared(read, [b"seed"])

fuzz_targets.TARGETS["faulty"], fuzz_targets.TIME_LIMIT = faulty, 1
main("faulty", Path(sys.argv[1]), "mutations", 20)
"""
    python_path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "fuzz")))
    command = [sys.executable, "-c", code, str(tmp_path)]
    child = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": python_path}, capture_output=True, text=True, check=False
    )
    assert child.returncode != 0
    assert message in child.stderr
    assert (tmp_path / "input").read_bytes() != b"seed"
