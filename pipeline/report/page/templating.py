"""The templates of pages, and their environment; nothing here loads Matplotlib."""

import importlib.resources
import re

import jinja2
from markupsafe import Markup

from pipeline.formatting import format_ci, format_interval, format_p, format_points, format_value
from pipeline.results.verdicts import verdict_sentence
from pipeline.runs.result import family_of

TEMPLATES = importlib.resources.files("pipeline.report.page") / "templates"


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
