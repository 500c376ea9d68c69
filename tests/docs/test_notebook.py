"""The notebook of the documentation runs from its first cell to its last."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "python.ipynb"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HEADSTART_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    output = capsys.readouterr().out
    assert "test accuracy 0." in output
    assert names["features"].shape == (2000, 1024)
    assert list(names["runs"]["settings.c"]) == [0.01]
    assert len(names["model"].class_names) == 10
