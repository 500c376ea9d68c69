"""Luigi parameters whose mistakes are reported in one line instead of a stack trace."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import luigi
from luigi.cmdline_parser import CmdlineParser

from pipeline.errors import BadInput, HeadstartError
from pipeline.recipes import settings

EXIT_BAD_INPUT = 2  # as argparse's own


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """On Luigi's command line, end with one line and exit code 2 on a HeadstartError; else let it pass."""
    try:
        yield
    except HeadstartError as error:
        if CmdlineParser.get_instance() is None:
            raise
        end_with(error)


def end_with(error: HeadstartError) -> NoReturn:
    """End the process with one line and the exit code of bad input."""
    sys.stderr.write(f"headstart: error: {error}\n")
    raise SystemExit(EXIT_BAD_INPUT) from None


class WholeNumber(luigi.IntParameter):
    """A whole number from low to 2^31 - 1, which is what seeds of all libraries have in common."""

    HIGHEST = 2**31 - 1

    def __init__(self, *, low: int = 0, **options):
        super().__init__(**options)
        self._low = low

    def parse(self, text: str) -> int:
        """Return the number in text."""
        with one_line_errors():
            return _whole(self, text)

    def normalize(self, value: int) -> int:
        """Return value; raise BadInput when it is out of range."""
        with one_line_errors():
            if not self._low <= value <= self.HIGHEST:
                raise BadInput(f"--{_flag(self)}: expected {self._low} to {self.HIGHEST}, received {value}")
        return value


class WholeNumbers(luigi.Parameter):
    """Whole numbers separated by commas, as a tuple; the default None means that somebody else decides."""

    def parse(self, text: str) -> tuple[int, ...] | None:
        """Return the numbers in text, None when it is empty."""
        with one_line_errors():
            return tuple(_whole(self, part) for part in text.split(",") if part.strip()) or None

    def serialize(self, value: tuple[int, ...] | None) -> str:
        """Return the text that parse reads back."""
        return ",".join(map(str, value or ()))

    def _warn_on_wrong_param_type(self, *_) -> None:
        """Luigi expects texts of a plain Parameter; these are tuples."""


class OptionalNumber(luigi.OptionalIntParameter):
    """A whole number, or None, which means that somebody else decides."""

    def parse(self, text: str) -> int | None:
        """Return the number in text, None when it is empty."""
        with one_line_errors():
            return _whole(self, text) if text else None


class SettingsParameter(luigi.DictParameter):
    """Settings of a recipe as a JSON object, such as {"epochs": 5}."""

    def __init__(self, *, example: str = '{"epochs": 5}', **options):
        super().__init__(**options)
        self._example = example

    def parse(self, text: str) -> Any:
        """Return the settings in text."""
        with one_line_errors():
            try:
                value = super().parse(text)
            except ValueError as error:
                raise self._wrong(f"{text!r} ({error})") from None
            if not hasattr(value, "items"):
                raise self._wrong(repr(text))
            return value

    def _wrong(self, received: str) -> BadInput:
        expected = f"a JSON object such as {self._example}"
        return BadInput(f"--{_flag(self)}: expected {expected}, received {received}")


class SettingParameter(luigi.Parameter):
    """One setting of a recipe, made from its declaration; the default None takes the recipe's own value."""

    def __init__(self, field: dataclasses.Field):
        super().__init__(
            default=None, description=f"{settings.describe(field)} [default: the recipe's]".replace("%", "%%")
        )
        self._field = field

    def parse(self, text: str) -> Any:
        """Return the setting's value in its own type, None for an empty text."""
        with one_line_errors():
            return settings.parse(self._field, text) if text or self._field.type.startswith("tuple") else None

    def serialize(self, value: Any) -> str:
        """Return the text that parse reads back."""
        if value is None:
            return ""
        return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)

    def normalize(self, value: Any) -> Any:
        """Return lists as tuples, so that equal settings are one task."""
        return tuple(value) if isinstance(value, list) else value

    def _warn_on_wrong_param_type(self, *_) -> None:
        """Luigi expects texts of a plain Parameter; these have the setting's type."""


def _whole(parameter: luigi.Parameter, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadInput(f"--{_flag(parameter)}: expected a whole number, received {text.strip()!r}") from None


def _flag(parameter: luigi.Parameter) -> str:
    return parameter._attribute_name.replace("_", "-")
