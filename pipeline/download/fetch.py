"""Fetching one file from the first mirror that has it: in bounded time, resumed where it stopped, checked.

What came so far from a mirror lies beside the target in a `.part` file, with a note about which version of
the file it belongs to. A kill at any moment leaves nothing else. Only a file that passed its check gets the
target's name. One process fetches a target at a time: the caller holds the lock.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import url2pathname

import requests
from requests.exceptions import ConnectTimeout

from pipeline.errors import BadInput, DamagedFile, DownloadFailed
from pipeline.progress import Progress, silent
from pipeline.storage.publishing import explained

logger = logging.getLogger(__name__)

CHUNK_BYTES = 8192  # small, because a mirror that takes stall_seconds for one chunk counts as stalled
COPY_BYTES = 1 << 20
QUEUED_CHUNKS = 128
STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
PRINTABLE = re.compile(r"[\x20-\x7e]+")
LENGTH = re.compile(r"[0-9]{1,18}")
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
UNSATISFIED_RANGE = re.compile(r"bytes \*/([0-9]{1,18})")


@dataclass(frozen=True)
class Patience:
    """How long a mirror may keep one waiting, and how much it may send.

    A mirror is left when it does not answer within connect_seconds + stall_seconds, sends nothing for
    stall_seconds, or sends less than bytes_per_second on average over window_seconds ("crawls"). When no
    mirror is better, those that crawl are gone over once more with last_resort_bytes_per_second.
    """

    connect_seconds: float = 10
    stall_seconds: float = 20
    window_seconds: float = 30
    bytes_per_second: float = 100_000
    last_resort_bytes_per_second: float = 5_000
    size_limit: int = 2 << 30  # bytes


def fetch(
    urls: Sequence[str],
    target: Path,
    check: Callable[[Path], None],
    *,
    progress: Progress = silent,
    patience: Patience = Patience(),
    advice: str = "",
) -> str:
    """Make target from the first mirror whose file passes check, and return that mirror's URL.

    URLs are http, https or file. check takes a path and raises DamagedFile when the file there is not the
    right one. What an earlier, interrupted call brought from the same URL is continued. Raises DownloadFailed
    with each URL's reason, followed by advice, when no mirror gives the file, and HeadstartError when target
    cannot be written.
    """
    mirrors = list(dict.fromkeys(urls))
    if not mirrors:
        raise BadInput(f"{target}: expected at least one URL to download it from, found none")
    target = Path(target)
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    reasons: dict[str, _Left] = {}
    hurry = [patience.bytes_per_second] if len(mirrors) > 1 else []
    waiting = mirrors
    for slowest in (*hurry, patience.last_resort_bytes_per_second):
        for url in waiting:
            try:
                _Attempt(url, target, check, progress, patience, slowest).make()
                return url
            except _Left as reason:
                reasons[url] = reason
                logger.warning("%s: left %s: %s", target.name, url, reason)
        waiting = [url for url in waiting if isinstance(reasons[url], _Crawls)]
    lines = [f"{target.name}: no mirror gave the file"]
    lines += [f"  {url}: {reason}" for url, reason in reasons.items()]
    lines += [advice] if advice else []
    raise DownloadFailed("\n".join(lines))


class _Left(Exception):
    """A mirror was left; the message is the reason, and what it sent so far is kept."""


class _Crawls(_Left):
    """A mirror was left because it is slow, not because it is broken."""


class _Useless(_Left):
    """A mirror was left, and what it sent cannot become the file."""


@dataclass(frozen=True)
class _Note:
    """Which version of which file a part belongs to: validator is a strong ETag or a Last-Modified date."""

    url: str
    validator: str | None
    total: int | None


@dataclass
class _Attempt:
    """One attempt to make target from one URL; what the mirror sent so far is the part beside the target."""

    url: str
    target: Path
    check: Callable[[Path], None]
    progress: Progress
    patience: Patience
    slowest: float  # bytes a second
    part: Path = field(init=False)
    note: Path = field(init=False)

    def __post_init__(self) -> None:
        key = hashlib.sha256(self.url.encode()).hexdigest()[:8]
        self.part = self.target.parent / f".{self.target.name}.{key}.part"
        self.note = self.part.with_name(f"{self.part.name}.json")

    def make(self) -> None:
        """Download or copy the URL beside the target, check it and name it so; raise _Left if not."""
        try:
            self._bring()
            self.check(self.part)
        except (DamagedFile, _Useless) as error:
            self._discard()
            raise _Useless(str(error).removeprefix(f"{self.part}: ")) from error
        with explained(self.target):
            with self.part.open("rb+") as file:
                os.fsync(file.fileno())
            self.part.replace(self.target)
            for leftover in self.target.parent.glob(f".{glob.escape(self.target.name)}.????????.part*"):
                leftover.unlink(missing_ok=True)

    def _bring(self) -> None:
        try:
            pieces = urlsplit(self.url)
        except ValueError as error:
            raise _Useless(f"not a URL ({error})") from error
        if pieces.scheme == "file":
            self._copy(pieces)
        elif pieces.scheme in ("http", "https"):
            self._download()
        else:
            raise _Useless(f"scheme {pieces.scheme!r} is not supported, expected http, https or file")

    def _copy(self, pieces: SplitResult) -> None:
        if pieces.netloc not in ("", "localhost"):
            raise _Useless(f"names the host {pieces.netloc!r}, expected file:///absolute/path")
        source = Path(url2pathname(pieces.path))
        if not source.is_file():
            raise _Useless("no such file")
        total = source.stat().st_size
        self._refuse_large(total)
        with explained(self.target), self.part.open("wb") as copy:
            for chunk in _chunks_of(source):
                copy.write(chunk)
                self._report(copy.tell(), total)

    def _download(self) -> None:
        """Bring the part to its whole length, from where it stopped if the mirror allows, else from zero."""
        size, note = self._resumable() or (0, None)
        with _Transfer(self.url, self.patience, size, note) as transfer:
            answer = transfer.answer()
            if note and answer.says_whole(size, note):
                return
            if note and answer.continues(size, note):
                logger.info("%s: %s continues at byte %d", self.target.name, self.url, size)
                total = note.total or (None if answer.length is None else size + answer.length)
                self._receive(transfer, start=size, total=total)
                return
            if note is None or answer.status not in (206, 416):
                if answer.status != 200:
                    raise _Left(f"HTTP {answer.status}")
                note = _Note(self.url, answer.validator, answer.length)
                with explained(self.target):  # in this order: old bytes never get a new note
                    self.part.write_bytes(b"")
                    self.note.write_text(json.dumps(asdict(note)), encoding="utf-8")
                self._receive(transfer, start=0, total=answer.length)
                return
        logger.info("%s: %s cannot continue at byte %d, starts from zero", self.target.name, self.url, size)
        self._discard()
        self._download()

    def _receive(self, transfer: _Transfer, *, start: int, total: int | None) -> None:
        """Append the body to the part; total is the whole file's bytes, None when the mirror keeps it."""
        self._refuse_large(total or 0)
        speed = _SpeedCheck(self.slowest, self.patience.window_seconds)
        done = start
        self._report(done, total)
        with explained(self.target), self.part.open("ab") as file:
            for chunk in transfer.chunks():
                file.write(chunk)
                done += len(chunk)
                self._refuse_large(done)
                self._report(done, total)
                if done != total:
                    speed.add(len(chunk))
        if total is not None and done < total:
            raise _Left(f"body ended after {done} of {total} bytes")
        if total is not None and done > total:
            raise _Useless(f"sent {done} bytes, expected {total}")

    def _resumable(self) -> tuple[int, _Note] | None:
        """Return the size and the note of what can be continued, or None."""
        try:
            note = _Note(**json.loads(self.note.read_text(encoding="utf-8")))
            size = self.part.stat().st_size
        except (OSError, ValueError, TypeError):  # no part, or a note that was cut off by a kill
            return None
        sound = note.url == self.url and isinstance(note.validator, str)
        sound = sound and isinstance(note.total, int | None) and size > 0
        return (size, note) if sound else None

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _report(self, done: int, total: int | None) -> None:
        self.progress(f"download {self.target.name}", done, total or 0, "bytes")

    def _refuse_large(self, size: int) -> None:
        limit = self.patience.size_limit
        if size > limit:
            raise _Useless(f"larger than expected: at least {size} bytes, at most {limit} are accepted")


def _chunks_of(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb") as file:
            while chunk := file.read(COPY_BYTES):
                yield chunk
    except OSError as error:
        raise _Useless(f"could not be read ({error.strerror})") from error


@dataclass(frozen=True)
class _Response:
    status: int
    headers: Mapping[str, str]

    @property
    def validator(self) -> str | None:
        """What If-Range may carry: a strong ETag, else the date of the last change (RFC 9110, 13.1.5)."""
        etag, modified = self.headers.get("ETag", ""), self.headers.get("Last-Modified", "")
        if STRONG_ETAG.fullmatch(etag):
            return etag
        return modified if PRINTABLE.fullmatch(modified) else None

    @property
    def length(self) -> int | None:
        found = LENGTH.fullmatch(self.headers.get("Content-Length", ""))
        return int(found[0]) if found else None

    def says_whole(self, size: int, note: _Note) -> bool:
        """Say whether this is a 416 because there is nothing left to send."""
        found = UNSATISFIED_RANGE.fullmatch(self.headers.get("Content-Range", ""))
        total = int(found[1]) if found else note.total
        return self.status == 416 and size == total

    def continues(self, size: int, note: _Note) -> bool:
        """Say whether this is a 206 with the rest of the very file that the part is the beginning of."""
        found = CONTENT_RANGE.fullmatch(self.headers.get("Content-Range", ""))
        if self.status != 206 or not found or int(found[1]) != size:
            return False
        same_total = note.total is None or found[2] in ("*", str(note.total))
        return same_total and self.validator in (None, note.validator)


class _SpeedCheck:
    """Watches whether a mirror keeps up with slowest, in bytes a second, on average over each window."""

    def __init__(self, slowest: float, window: float) -> None:
        self._slowest, self._window = slowest, window
        self._since, self._bytes = time.monotonic(), 0

    def add(self, count: int) -> None:
        self._bytes += count
        elapsed = time.monotonic() - self._since
        if elapsed < self._window:
            return
        rate = self._bytes / elapsed
        if rate < self._slowest:
            raise _Crawls(f"crawls at {rate / 1000:.3g} kB/s")
        self._since, self._bytes = time.monotonic(), 0


class _Transfer:
    """A GET that runs in a thread, so that whoever waits for it can stop waiting.

    Timeouts of sockets do not bound a look-up of a name, a chain of redirects, or headers that come byte by
    byte; a queue between the thread and the reader does. The thread ends at the latest stall_seconds after it
    was left.
    """

    def __init__(self, url: str, patience: Patience, start: int = 0, note: _Note | None = None) -> None:
        self._url, self._patience = url, patience
        # Compressed on the way, the bytes would not be those that Range counts.
        self._headers = {"Accept-Encoding": "identity"}
        if note:
            self._headers |= {"Range": f"bytes={start}-", "If-Range": str(note.validator)}
        self._items: queue.Queue[Any] = queue.Queue(QUEUED_CHUNKS)
        self._left = threading.Event()

    def __enter__(self) -> _Transfer:
        threading.Thread(target=self._work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        with contextlib.suppress(queue.Empty):
            while True:  # makes room, should the thread be waiting for it
                self._items.get_nowait()

    def answer(self) -> _Response:
        """Return status and headers; raise _Left when none came in time."""
        return self._next(self._patience.connect_seconds + self._patience.stall_seconds)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body's bytes as sent; raise _Left when it breaks or stalls."""
        while (chunk := self._next(self._patience.stall_seconds)) is not None:
            yield chunk

    def _next(self, seconds: float) -> Any:
        try:
            item = self._items.get(timeout=seconds)
        except queue.Empty:
            raise _Left(f"stalled for {seconds:g} s") from None
        if isinstance(item, Exception):
            raise _Left(_in_words(item, self._patience)) from item
        return item

    def _work(self) -> None:
        timeouts = (self._patience.connect_seconds, self._patience.stall_seconds)
        try:
            with (
                requests.Session() as session,  # knows http and https only, for redirects too
                session.get(self._url, headers=self._headers, stream=True, timeout=timeouts) as response,
            ):
                self._items.put(_Response(response.status_code, response.headers))
                response.raw.enforce_content_length = False  # the reader knows better what is missing
                for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                    if self._left.is_set():
                        return
                    self._items.put(chunk)
            self._items.put(None)
        except Exception as error:  # whatever it is, the reader puts it into words
            self._items.put(error)


def _in_words(error: Exception, patience: Patience) -> str:
    """Return a network error's cause in a few words; libraries wrap it several times."""
    if isinstance(error, ConnectTimeout):
        return f"no connection within {patience.connect_seconds:g} s"
    words = (
        (ConnectionRefusedError, "connection refused"),
        (ConnectionResetError, "connection reset by the server"),
        (socket.gaierror, "no such host, or no network"),
        (TimeoutError, f"stalled for {patience.stall_seconds:g} s"),
    )
    cause: BaseException | None = error
    while cause is not None:
        for kind, reason in words:
            if isinstance(cause, kind):
                return reason
        if isinstance(cause, ssl.SSLError):
            return f"no secure connection ({cause})"
        hidden = None if cause.__suppress_context__ else cause.__context__
        innermost, cause = cause, cause.__cause__ or hidden
    return str(innermost)[:200] or type(innermost).__name__
