"""The documents of the project, and the commands in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = r"^    ((?:\w+=\S+ )*(?:luigi --module tasks|headstart) .*)$"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """Return every luigi and headstart command of the documents once, without what explains it."""
    found: dict[str, None] = {}
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for line in re.findall(
            r"^    ((?:\w+=\S+ )*(?:luigi --module tasks|headstart) .*)$", text, re.MULTILINE
        ):
            found[re.split(r"\s+#", line)[0].rstrip()] = None
    return [*found]


def python_blocks(name: str) -> str:
    """Return the Python of a document as one text."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
