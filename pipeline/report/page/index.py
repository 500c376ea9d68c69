"""The index page of all reports in a data folder."""

import datetime
import html
import re
from pathlib import Path
from typing import Any

from pipeline.report.page.templating import environment
from pipeline.report.table import COMPARISON_PAGE
from pipeline.storage import layout
from pipeline.storage.publishing import publish_text

KINDS = ("comparison", "recommendation", "labels", "seeds", "blocks")
MAIN_FILES = (COMPARISON_PAGE, "*.md", "*.txt")  # what a link to a report opens, in this order


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
    rows = [_row(name, path, target.parent) for name, path in reports(data).items()]
    publish_text(target, environment().get_template("index.html.jinja").render(rows=rows))
    return target


def _row(name: str, path: Path, root: Path) -> dict[str, Any]:
    title = name
    if path.name == COMPARISON_PAGE and (
        match := re.search(r"<title>(.*?)</title>", path.read_text("utf-8"), re.S)
    ):
        title = html.unescape(match[1])
    changed = datetime.datetime.fromtimestamp((path.parent / layout.MANIFEST).stat().st_mtime)
    others = [one.relative_to(root).as_posix() for one in sorted(path.parent.glob("*.png"))]
    link = path.relative_to(root).as_posix()
    return {
        "name": name,
        "title": title,
        "link": link,
        "changed": f"{changed:%Y-%m-%d %H:%M}",
        "pictures": others,
    }
