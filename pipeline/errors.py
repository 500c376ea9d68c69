"""Errors whose message is enough for users; they are printed without a stack trace."""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar


class HeadstartError(Exception):
    """An error whose message says what happened, what was expected and what to do."""


class BadInput(HeadstartError):
    """The caller requested something that does not exist or is not valid."""


class DamagedFile(HeadstartError):
    """A file does not match its checksum, manifest or format."""


class DownloadFailed(HeadstartError):
    """No mirror provided the file."""


class Diverged(HeadstartError):
    """The loss of a training is no longer finite."""


class ChildFailed(HeadstartError):
    """A child process ended without a result."""


def unknown_name(kind: str, name: str, valid: Iterable[object]) -> BadInput:
    """Return the error for a name that is not in a table; valid is any iterable of names."""
    return BadInput(f"unknown {kind} {name!r}: expected one of {', '.join(sorted(map(str, valid)))}")


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=_Named)


class Table(dict[str, Row]):
    """Rows by their name; a lookup of an unknown name raises BadInput, which lists the names."""

    def __init__(self, kind: str, *rows: Row):
        super().__init__({row.name: row for row in rows})
        self._kind = kind

    def __missing__(self, name: Any) -> Row:
        raise unknown_name(self._kind, name, self)
