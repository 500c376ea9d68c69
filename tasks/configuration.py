"""The data folder, Luigi's configuration and logging, independent of the working directory."""

import configparser
import difflib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import luigi.configuration
from luigi.cmdline_parser import CmdlineParser
from luigi.task_register import Register

from pipeline.backbones.saved_models import MODELS_VARIABLE
from pipeline.errors import BadInput, HeadstartError
from pipeline.extensions import load_extensions
from pipeline.formatting import printable
from pipeline.storage import layout
from tasks.parameters import exit_with

HOME = Path(__file__).resolve().parent.parent
LUIGID_OPTIONS = ("--scheduler-url", "--scheduler-host", "--scheduler-port")


def configure() -> None:
    """Load the project's luigi.cfg as defaults for the user's own, set up logging, and load extensions."""
    config = luigi.configuration.get_config()
    defaults = configparser.RawConfigParser()
    defaults.read(Path(__file__).with_name("luigi.cfg"), encoding="utf-8")  # a link in a checkout
    for section in defaults.sections():
        for option, value in defaults.items(section):
            if not config.has_option(section, option):
                config.set(section, option, value)
    if any(argument.startswith(LUIGID_OPTIONS) for argument in sys.argv[1:]):
        config.set("core", "local_scheduler", "false")
    logging.getLogger("luigi-interface").addFilter(hide_traceback)
    logger = logging.getLogger("pipeline")
    logger.setLevel(logging.INFO)
    logger.addHandler(ForwardToLuigi())
    try:
        load_extensions()
    except HeadstartError as error:  # no caller can catch it: commands import this package before they run
        exit_with(error)


def data_folder() -> Path:
    """Return the folder of all results.

    It is HEADSTART_DATA_DIR, or data/ of the checkout, or without a checkout data/ of the working directory.
    Descriptions of saved models are in it, and children inherit their place.
    """
    folder = (HOME if (HOME / "luigi.cfg").is_file() else Path.cwd()) / "data"
    if named := os.environ.get("HEADSTART_DATA_DIR"):
        folder = Path(os.path.expanduser(named)).resolve()  # noqa: PTH111 - Path's raises for unknown users
        place = next(place for place in (folder, *folder.parents) if place.exists())
        if not place.is_dir():
            raise BadInput(f"HEADSTART_DATA_DIR: expected a folder, received {folder}; {place} is not one")
    os.environ[MODELS_VARIABLE] = str(folder / layout.MODELS)
    return folder


def check_writable() -> None:
    """Create the data folder, also for Matplotlib's files; raise BadInput if it cannot be written."""
    folder = data_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            os.environ.setdefault("MPLCONFIGDIR", str(folder / layout.FONTS))
            return
        reason = "it cannot be written (a read-only file system, or no permission)"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise BadInput(f"data folder {folder}: {reason}; set HEADSTART_DATA_DIR to a folder that can be written")


def check_task_name(arguments: Sequence[str]) -> None:
    """On Luigi's command line, exit with one line if the task does not exist; Luigi shows a stack trace."""
    if Path(arguments[0]).stem not in ("luigi", "__main__") or "--module" not in arguments:
        return
    name = CmdlineParser._build_parser().parse_known_args(arguments[1:])[0].root_task
    if name and name not in Register.task_names():
        close = difflib.get_close_matches(name, Register.task_names()) or ["see docs/ for their names"]
        exit_with(BadInput(f"unknown task {name!r}: expected such as {', '.join(close)}"))


def mirrors(section: str, *, only_environment: bool = False) -> list[str]:
    """Return the URLs from HEADSTART_<SECTION>_URLS or, if it is not set, from a section of luigi.cfg."""
    text = os.environ.get(f"HEADSTART_{section.upper()}_URLS", "")
    if not (text or only_environment):
        text = luigi.configuration.get_config().get(section, "urls", "", raw=True)  # a URL may contain %
    return [url.strip() for url in text.split(",") if url.strip()]


def read_choice(section: str, option: str, variable: str, choices: Sequence[str]) -> str:
    """Return one of choices from an environment variable or, if it is not set, from luigi.cfg."""
    default = luigi.configuration.get_config().get(section, option, choices[0], raw=True)
    value = os.environ.get(variable) or default
    if value not in choices:
        source = variable if os.environ.get(variable) else f"[{section}] {option}"
        raise BadInput(f"{source}: expected one of {', '.join(choices)}, received {value!r}")
    return value


class ForwardToLuigi(logging.Handler):
    """Forwards the log records of pipeline/, including its child processes, to Luigi's logger."""

    def emit(self, record: logging.LogRecord) -> None:
        """Forward a record if Luigi's logger is enabled for its level."""
        interface = logging.getLogger("luigi-interface")
        if interface.isEnabledFor(record.levelno):
            interface.handle(record)


def hide_traceback(record: logging.LogRecord) -> bool:
    """Log a HeadstartError as its message alone, all text printable; a logging filter, so it returns True."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HeadstartError):
        task = record.args[-1] if isinstance(record.args, tuple) and record.args else "task"
        record.msg, record.args = "%s failed: %s", (task, error)
        record.exc_info = record.exc_text = None
    record.msg, record.args = printable(record.getMessage(), "\n"), ()
    return True
