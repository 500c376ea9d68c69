"""The table of faults in README.md here names the tests of each, and each fault has some."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
FAULTS = range(1, 28)


def files_by_fault() -> dict[int, set[str]]:
    """Return the files that have tests of each fault, by its number."""
    found: dict[int, set[str]] = {}
    for path in HERE.rglob("test_*.py"):
        for name in re.findall(
            r"^def test_fault_((?:\d\d_(?:and_)?)+)", path.read_text(), flags=re.MULTILINE
        ):
            for number in re.findall(r"\d\d", name):
                found.setdefault(int(number), set()).add(path.relative_to(HERE).as_posix())
    return found


def test_every_fault_has_tests_and_the_table_names_their_files():
    rows = re.findall(r"^\| (\d+) \|[^|]*\|(.*)\|$", (HERE / "README.md").read_text(), flags=re.MULTILINE)
    listed = {int(number): set(re.findall(r"`([^`]+)`", files)) for number, files in rows}
    assert sorted(listed) == list(FAULTS)
    assert listed == files_by_fault()
