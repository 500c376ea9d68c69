"""Luigi parameters that report bad values in one line instead of a stack trace."""

import configparser
import contextlib
import dataclasses
import errno
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import luigi
from luigi.cmdline_parser import CmdlineParser

from pipeline.errors import BadInput, HeadstartError
from pipeline.formatting import printable
from pipeline.recipes import settings

EXIT_BAD_INPUT = 2  # the same as argparse's


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """On Luigi's command line, exit with one line and code 2 on a HeadstartError; elsewhere, raise it."""
    try:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.ENOTDIR):
                raise
            raise BadInput(f"{str(error.filename)[:60]}: {os.strerror(error.errno)}") from None
        except configparser.Error as error:
            raise BadInput(f"Luigi's configuration: {' '.join(str(error).split())}") from None
    except HeadstartError as error:
        if CmdlineParser.get_instance() is None:
            raise
        exit_with(error)


def exit_with(error: HeadstartError) -> NoReturn:
    """Exit the process with one line and the exit code for bad input."""
    sys.stderr.write(printable(f"headstart: error: {error}\n", "\n"))
    raise SystemExit(EXIT_BAD_INPUT) from None


class WholeNumber(luigi.IntParameter):
    """A whole number from low to 2^31 - 1, the range of seeds that all libraries accept."""

    HIGHEST = 2**31 - 1

    def __init__(self, *, low: int = 0, **options: Any):
        super().__init__(**options)
        self._low = low

    def parse(self, text: str) -> int:
        """Return the number in text."""
        with _expecting(self, "a whole number", text.strip()):
            return int(text)

    def normalize(self, value: int) -> int:
        """Return value, or raise BadInput if it is out of range."""
        with _expecting(self, f"{self._low} to {self.HIGHEST}", value):
            if not self._low <= value <= self.HIGHEST:
                raise ValueError(value)
            return value


class OptionalNumber(luigi.OptionalIntParameter):
    """A whole number, or None if its default is decided elsewhere."""

    def parse(self, text: str) -> int | None:
        """Return the number in text, or None if it is empty."""
        with _expecting(self, "a whole number", text.strip()):
            return int(text) if text else None


class SchedulerAddress(luigi.Parameter[str]):
    """The address of a Dask scheduler, "local" for a new one on this machine, or "" for none."""

    @one_line_errors()
    def parse(self, text: str) -> str:
        """Return text, or raise BadInput if it is no address."""
        if text not in ("", "local") and not text.startswith(("tcp://", "tls://")):
            raise BadInput(f"--dask: expected local or an address, tcp://HOST:PORT, received {text!r}")
        return text


class CommaParameter(luigi.Parameter[Any]):
    """A value, or several separated by commas; the default None is decided elsewhere."""

    def serialize(self, value: Any) -> str:
        """Return the text that parse reads back."""
        if value is None:
            return ""
        return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)

    def normalize(self, value: Any) -> Any:
        """Return lists as tuples, so that equal values give the same task."""
        return tuple(value) if isinstance(value, list) else value


class WholeNumbers(CommaParameter):
    """A tuple of whole numbers."""

    def parse(self, text: str) -> tuple[int, ...] | None:
        """Return the numbers in text, or None if it is empty."""
        with _expecting(self, "whole numbers separated by commas", text):
            return tuple(int(part) for part in text.split(",") if part.strip()) or None


class SettingParameter(CommaParameter):
    """One setting of a recipe, built from its field; the default None uses the recipe's own value."""

    def __init__(self, field: dataclasses.Field[Any]):
        description = f"{settings.describe(field)} [default: the recipe's]"
        super().__init__(default=None, description=description.replace("%", "%%"))
        self._field, self._is_tuple = field, settings.kind_name(field).startswith("tuple")

    @one_line_errors()
    def parse(self, text: str) -> Any:
        """Return the value in the setting's type, or None for an empty text unless the type is a tuple."""
        return settings.parse(self._field, text) if text or self._is_tuple else None


class SettingsParameter(luigi.DictParameter):
    """Settings of a recipe as a JSON object, such as {"epochs": 5}."""

    def __init__(self, *, example: str = '{"epochs": 5}', **options: Any):
        super().__init__(**options)
        self._example = example

    def parse(self, text: str) -> Any:
        """Return the settings in text."""
        with _expecting(self, f"a JSON object such as {self._example}", text):
            value = super().parse(text)
            if not hasattr(value, "items"):
                raise ValueError(value)
            return value


@contextlib.contextmanager
def _expecting(parameter: luigi.Parameter[Any], expected: str, received: object) -> Iterator[None]:
    """Report a ValueError in the block as a bad value of a parameter."""
    with one_line_errors():
        try:
            yield
        except ValueError as error:
            where = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
            flag = parameter._attribute_name.replace("_", "-")
            raise BadInput(f"--{flag}: expected {expected}, received {received!r}{where}") from None
