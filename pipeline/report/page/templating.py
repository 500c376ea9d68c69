"""The templates of pages, and the index page of all reports; nothing here loads Matplotlib."""

import datetime
import html
import importlib.resources
import re
from pathlib import Path

import jinja2
from markupsafe import Markup

from pipeline.formatting import format_ci, format_interval, format_p, format_points, format_value
from pipeline.report.table import COMPARISON_PAGE
from pipeline.results.verdicts import verdict_sentence
from pipeline.runs.result import family_of
from pipeline.storage import layout
from pipeline.storage.publishing import publish_text

TEMPLATES = importlib.resources.files("pipeline.report.page") / "templates"
KINDS = ("comparison", "recommendation", "labels", "seeds", "blocks")
MAIN_FILES = (COMPARISON_PAGE, "*.md", "*.txt")  # what a link to a report opens, in this order


def environment() -> jinja2.Environment:
    """Return the environment of the templates. Names are escaped: a class or recipe may contain markup."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (TEMPLATES / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (format_value, format_interval, format_p, format_ci, format_points)
    for function in (*formats, family_of, verdict_sentence, nonbreaking):
        environment.filters[function.__name__] = function
    environment.globals["style"] = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    return environment


def nonbreaking(text: str) -> str:
    """Return text with nonbreaking spaces between a number and its unit, and before a middle dot."""
    return re.sub(r"(?<=\d) (?=%|(?:s|min|h|points?)\b)| (?=·)", "\u00a0", text)


def reports(data: Path) -> dict[str, Path]:
    """Return the main file of each finished report by the report's name, the newest first."""
    folders = [folder for kind in KINDS for folder in layout.finished(data, kind)]
    folders.sort(key=lambda folder: (folder / layout.MANIFEST).stat().st_mtime, reverse=True)
    files = {}
    for folder in folders:
        paths = (path for pattern in MAIN_FILES for path in sorted(folder.glob(pattern)))
        if main := next(paths, None):
            files[folder.relative_to(data / layout.folder_of("comparison")).as_posix()] = main
    return files


def publish_index(data: Path) -> Path:
    """Write the index page of all reports and return its path."""
    target = data / layout.REPORT_INDEX
    rows = []
    for name, path in reports(data).items():
        page = path.read_text("utf-8") if path.name == COMPARISON_PAGE else ""
        match = re.search(r"<title>(.*?)</title>", page, re.S)
        changed = datetime.datetime.fromtimestamp((path.parent / layout.MANIFEST).stat().st_mtime)
        link, *pictures = (
            file.relative_to(target.parent).as_posix() for file in (path, *sorted(path.parent.glob("*.png")))
        )
        title = html.unescape(match[1]) if match else name
        facts = {"changed": f"{changed:%Y-%m-%d %H:%M}", "pictures": pictures}
        rows.append({"name": name, "title": title, "link": link, **facts})
    publish_text(target, environment().get_template("index.html.jinja").render(rows=rows))
    return target
