"""Where things are and what Luigi is told, whichever folder the graph is run from."""

from __future__ import annotations

import configparser
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import luigi.configuration

from pipeline.errors import BadInput, HeadstartError
from pipeline.extensions import load_extensions
from tasks.parameters import end_with

HOME = Path(__file__).resolve().parent.parent
ASKS_FOR_LUIGID = ("--scheduler-url", "--scheduler-host", "--scheduler-port")


def configure() -> None:
    """Read the project's luigi.cfg below the user's own, and keep users' mistakes free of stack traces."""
    config = luigi.configuration.get_config()
    own = configparser.RawConfigParser()
    own.read(HOME / "luigi.cfg", encoding="utf-8")
    for section in own.sections():
        for option, value in own.items(section):
            if not config.has_option(section, option):
                config.set(section, option, value)
    if any(word.startswith(ASKS_FOR_LUIGID) for word in sys.argv[1:]):
        config.set("core", "local_scheduler", "false")
    logging.getLogger("luigi-interface").addFilter(without_trace)
    shown = logging.getLogger("pipeline")
    shown.setLevel(logging.INFO)
    shown.addHandler(ShownByLuigi())
    try:
        load_extensions()
    except HeadstartError as error:  # nobody is there yet to catch it: all commands import this package first
        end_with(error)


def data_folder() -> Path:
    """Return the folder of everything that the graph makes.

    It is HEADSTART_DATA_DIR, or data/ of the checkout, or data/ here where the package is installed apart
    from its checkout.
    """
    place = os.environ.get("HEADSTART_DATA_DIR")
    if place:
        return Path(place).expanduser().resolve()
    return (HOME if (HOME / "luigi.cfg").is_file() else Path.cwd()) / "data"


def mirrors(section: str, variable: str, *, only_environment: bool = False) -> list[str]:
    """Return the URLs of an environment variable or, where it is not set, of luigi.cfg."""
    text = os.environ.get(variable, "")
    if not (text or only_environment):
        text = luigi.configuration.get_config().get(section, "urls", "")
    return [url.strip() for url in text.split(",") if url.strip()]


def one_of(section: str, option: str, variable: str, choices: Sequence[str]) -> str:
    """Return a choice of an environment variable or, where that is not set, of luigi.cfg."""
    usual = luigi.configuration.get_config().get(section, option, choices[0])
    found = os.environ.get(variable) or usual
    if found not in choices:
        where = variable if os.environ.get(variable) else f"[{section}] {option}"
        raise BadInput(f"{where}: expected one of {', '.join(choices)}, received {found!r}")
    return found


class ShownByLuigi(logging.Handler):
    """Shows what pipeline/ logs, in children as well, where Luigi shows what it does."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on to Luigi's logger, which may show fewer levels."""
        interface = logging.getLogger("luigi-interface")
        if interface.isEnabledFor(record.levelno):
            interface.handle(record)


def without_trace(record: logging.LogRecord) -> bool:
    """Show an error that explains itself as one message; a logging filter, so it returns True."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HeadstartError):
        task = record.args[-1] if isinstance(record.args, tuple) and record.args else "task"
        record.msg, record.args = "%s failed: %s", (task, error)
        record.exc_info = record.exc_text = None
    return True
