"""`make clean-data` removes the folders that the layout lists."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.storage import layout

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_clean_data_removes_generated_folders_and_keeps_downloads(tmp_path):
    data = tmp_path / "my data"
    for name in ("raw/weights", "own", ".locks", ".folders", "quarantine"):
        (data / name).mkdir(parents=True)
    for kind in layout.KINDS:
        (data / layout.folder_of(kind) / "x-0123456789ab").mkdir(parents=True, exist_ok=True)
    (data / "README.md").write_text("mine")
    environment = {**os.environ, "HEADSTART_DATA_DIR": str(data)}
    command = ["make", "clean-data", f"PYTHON={sys.executable}"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=60)
    assert sorted(path.name for path in data.iterdir()) == ["README.md", "own", "quarantine", "raw"]
    assert sorted(path.name for path in (data / "raw").iterdir()) == ["weights", "x-0123456789ab"]


def test_the_layout_needs_no_third_party_package(tmp_path):
    """`make clean-data` runs with the system's python3."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path; from pipeline.storage import layout\n"
        "print(*layout.generated_folders(Path('data')))"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert {"data/studies", "data/recipes", "data/runs", "data/.locks"} <= set(done.stdout.split())
    assert "data/raw" not in done.stdout.split()
