"""Planning the graph is light, and imports go one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "keras", "h5py", "pandas", "sklearn", "matplotlib", "numpy")


def test_importing_tasks_loads_no_numerical_library(call):
    code = f"import tasks, sys; sys.exit(str([n for n in {HEAVY} if n in sys.modules]).strip('[]') or 0)"
    done = call("-c", code)
    assert done.returncode == 0, done.stderr


def test_a_graph_is_planned_without_a_numerical_library(call):
    code = (
        "import sys; from tasks import CompareSchemes\n"
        "def walk(task):\n"
        "    task.complete(); task.output()\n"
        "    [walk(needed) for needed in task.deps()]\n"
        "walk(CompareSchemes(preset='full'))\n"
        f"sys.exit(str([n for n in {HEAVY} if n in sys.modules]).strip('[]') or 0)"
    )
    done = call("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_pipeline_knows_neither_luigi_nor_the_tasks():
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        strangers = imported(path) & {"luigi", "tasks"}
        assert not strangers, f"{path} imports {strangers}"


@pytest.mark.parametrize("package", ["pipeline", "tasks"])
def test_heavy_libraries_are_imported_inside_functions_only(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        heavy = imported_at_top(path) & set(HEAVY)
        assert not heavy, f"{path} imports {heavy} at its top"


def imported(path: Path) -> set[str]:
    return _names(ast.walk(ast.parse(path.read_text())))


def imported_at_top(path: Path) -> set[str]:
    return _names(ast.parse(path.read_text()).body)


def _names(nodes) -> set[str]:
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found
