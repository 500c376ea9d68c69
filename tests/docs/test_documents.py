"""The documents are short enough to be read, their links lead somewhere, their commands are understood."""

from __future__ import annotations

import re
import shlex

import pytest
from documents import DOCUMENTS, ROOT, commands
from luigi.cmdline_parser import CmdlineParser

import tasks
from pipeline.recipes.named import publish_recipe
from tasks.commands.main import parser_for

PAGES = [*DOCUMENTS, *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"))]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 9 * 1024


def test_the_architecture_is_one_page():
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_figure_is_left_to_be_filled_in(path):
    assert not re.search(r"@[A-Z]+@", path.read_text(encoding="utf-8"))


def test_the_glossary_has_a_dozen_words_in_one_line_each():
    lines = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert len(rows) == 12


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", text):
        place = path.parent / target[0]
        assert target[0].startswith("http") or place.exists(), target[0]
        if target[1]:
            headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert target[1] in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


def test_every_guide_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in DOCUMENTS[1:] if f"docs/{path.name}" not in text] == []


@pytest.mark.parametrize("line", [line for line in commands() if "headstart " in line])
def test_every_headstart_command_is_understood(line, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_DATA_DIR", str(tmp_path))
    publish_recipe(tmp_path / "recipes" / "tuned-lesson-cifar10-sample", "from-scratch", "lesson", {}, {})
    words = [word for word in shlex.split(line) if word != "--help"]
    words = words[words.index("headstart") + 1 :]
    options = parser_for(words).parse_args(words)
    assert callable(options.action)


@pytest.mark.parametrize("line", [line for line in commands() if "luigi " in line and "--help" not in line])
def test_every_luigi_command_names_a_task_with_its_parameters(line, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_DATA_DIR", str(tmp_path))
    publish_recipe(tmp_path / "recipes" / "tuned-lesson-cifar10-sample", "from-scratch", "lesson", {}, {})
    words = shlex.split(line.partition(" --scheduler-url")[0])
    words = words[words.index("tasks") + 1 :]
    with CmdlineParser.global_instance(words) as parser:
        task = parser.get_task_obj()
    assert isinstance(task, getattr(tasks, words[0]))
    assert not task.complete()
