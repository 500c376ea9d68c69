"""Luigi parameters that report bad values in one line instead of a stack trace."""

import contextlib
import dataclasses
import errno
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
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise BadInput(f"{str(error.filename)[:60]}…: the name is too long") from None
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

    @one_line_errors()
    def parse(self, text: str) -> int:
        """Return the number in text."""
        return _whole(self, text)

    @one_line_errors()
    def normalize(self, value: int) -> int:
        """Return value, or raise BadInput if it is out of range."""
        if not self._low <= value <= self.HIGHEST:
            raise BadInput(f"--{_flag(self)}: expected {self._low} to {self.HIGHEST}, received {value}")
        return value


class OptionalNumber(luigi.OptionalIntParameter):
    """A whole number, or None if its default is decided elsewhere."""

    @one_line_errors()
    def parse(self, text: str) -> int | None:
        """Return the number in text, or None if it is empty."""
        return _whole(self, text) if text else None


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

    @one_line_errors()
    def parse(self, text: str) -> tuple[int, ...] | None:
        """Return the numbers in text, or None if it is empty."""
        try:
            return tuple(int(part) for part in text.split(",") if part.strip()) or None
        except ValueError:
            expected = f"--{_flag(self)}: expected whole numbers separated by commas"
            raise BadInput(f"{expected}, received {text!r}") from None


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

    @one_line_errors()
    def parse(self, text: str) -> Any:
        """Return the settings in text."""
        expected = f"--{_flag(self)}: expected a JSON object such as {self._example}"
        try:
            value = super().parse(text)
        except ValueError as error:
            raise BadInput(f"{expected}, received {text!r} ({error})") from None
        if not hasattr(value, "items"):
            raise BadInput(f"{expected}, received {text!r}")
        return value


def _whole(parameter: luigi.Parameter[Any], text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadInput(f"--{_flag(parameter)}: expected a whole number, received {text.strip()!r}") from None


def _flag(parameter: luigi.Parameter[Any]) -> str:
    return parameter._attribute_name.replace("_", "-")
