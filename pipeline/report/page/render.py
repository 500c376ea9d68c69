"""Write the page: the template with its content, the style and the script in one file that needs no other."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import re
from pathlib import Path

import jinja2
from markupsafe import Markup

from pipeline.formatting import format_interval, format_value
from pipeline.report.page.content import Sources, content
from pipeline.results.verdicts import shown_p, signed, span, verdict_sentence
from pipeline.runs.result import family_of
from pipeline.storage.publishing import publish_text

TEMPLATES = importlib.resources.files("pipeline.report.page") / "templates"


def publish_page(path: Path, sources: Sources) -> None:
    """Publish the page of a comparison at path; the same stored results give the same bytes."""
    publish_text(path, page(sources))


def page(sources: Sources) -> str:
    """Return the page as HTML. Everything that a name or a class may hold is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (TEMPLATES / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (family_of, format_value, format_interval, shown_p, signed, span, verdict_sentence, unbroken)
    environment.filters |= {function.__name__: function for function in filters}
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    template = environment.get_template("page.html.jinja")
    found = {**content(sources), "style": Markup(style), "script": Markup(script), "script_digest": digest}
    return template.render(**found)


def unbroken(text: str) -> str:
    """Return text in which a number keeps its unit on its line, and a name the dot behind it."""
    return re.sub(r"(?<=\d) (?=%|(?:s|min|h|points?)\b)| (?=·)", "\u00a0", text)
