"""Download one file from the first mirror that has it, with time limits, resume and a check.

The bytes received from a mirror are kept beside the target in a `.part` file, with a note that records the
version of the file they belong to. A kill leaves nothing else. Only a file that passes its check is renamed
to the target. One process fetches a target at a time: the caller holds the lock.
"""

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
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import url2pathname

import requests
from requests.exceptions import ConnectTimeout

from pipeline.errors import BadInput, DamagedFile, DownloadFailed
from pipeline.formatting import format_duration
from pipeline.progress import Progress, silent
from pipeline.storage.publishing import explain_disk_errors

logger = logging.getLogger(__name__)

NETWORK_CHUNK_BYTES = 8192  # small, because a mirror that takes stall_seconds for one chunk counts as stalled
COPY_BYTES = 1 << 20
QUEUED_CHUNKS = 128
STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
PRINTABLE = re.compile(r"[\x20-\x7e]+")
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")


@dataclass(frozen=True)
class TransferLimits:
    """Limits on how long a mirror may take and how much it may send.

    A mirror fails when it does not respond within connect_seconds + stall_seconds, sends nothing for
    stall_seconds, or averages less than bytes_per_second over window_seconds ("too slow"). If every mirror
    fails, the slow ones are tried once more with last_resort_bytes_per_second. After notice_seconds, a
    warning says how long the rest will take if that is more than long_seconds.
    """

    connect_seconds: float = 10
    stall_seconds: float = 20
    window_seconds: float = 30
    bytes_per_second: float = 100_000
    last_resort_bytes_per_second: float = 5_000
    notice_seconds: float = 10
    long_seconds: float = 120
    size_limit: int = 2 << 30  # bytes


def fetch(
    urls: Sequence[str],
    target: Path,
    check: Callable[[Path], None],
    *,
    progress: Progress = silent,
    limits: TransferLimits = TransferLimits(),
    content: str = "the file",
    advice: str = "",
) -> str:
    """Download target from the first mirror whose file passes check, and return that mirror's URL.

    URLs are http, https or file. check takes a path and raises DamagedFile if the file is not the expected
    one; errors call it content. An interrupted download from the same URL is resumed. Raises DownloadFailed,
    with the reason for each URL followed by advice, when no mirror provides the file, and HeadstartError when
    target cannot be written.
    """
    mirrors = list(dict.fromkeys(urls))
    if not mirrors:
        raise BadInput(f"{target}: expected at least one URL to download it from, found none")
    target = Path(target)
    with explain_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    reasons: dict[str, _MirrorFailed] = {}
    strict = [limits.bytes_per_second] if len(mirrors) > 1 else []
    remaining = mirrors
    for min_speed in (*strict, limits.last_resort_bytes_per_second):
        for url in remaining:
            try:
                _Attempt(url, target, check, progress, limits, min_speed, content, advice).run()
                return url
            except _MirrorFailed as reason:
                reasons[url] = reason
                logger.warning("%s: giving up on %s: %s", target.name, url, reason)
        remaining = [url for url in remaining if isinstance(reasons[url], _TooSlow)]
    lines = [f"{target.name}: no mirror provided the file"]
    lines += [f"  {url}: {reason}" for url, reason in reasons.items()]
    lines += [advice] if advice else []
    raise DownloadFailed("\n".join(lines))


class _MirrorFailed(Exception):
    """A mirror failed; the message is the reason. The bytes received so far are kept."""


class _TooSlow(_MirrorFailed):
    """A mirror works but is too slow."""


class _Unusable(_MirrorFailed):
    """A mirror failed, and the bytes received from it cannot become the file."""


@dataclass(frozen=True)
class _Note:
    """The file and version a part belongs to; validator is a strong ETag or a Last-Modified date."""

    url: str
    validator: str | None
    total: int | None


@dataclass
class _Attempt:
    """One attempt to download target from one URL; the part file holds the bytes received so far."""

    url: str
    target: Path
    check: Callable[[Path], None]
    progress: Progress
    limits: TransferLimits
    min_speed: float  # bytes per second
    content: str
    advice: str
    part: Path = field(init=False)
    note: Path = field(init=False)
    warned: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        key = hashlib.sha256(self.url.encode()).hexdigest()[:8]
        self.part = self.target.parent / f".{self.target.name}.{key}.part"
        self.note = self.part.with_name(f"{self.part.name}.json")

    def run(self) -> None:
        """Download or copy to the part, check it and rename it to target; raise _MirrorFailed on failure."""
        try:
            self._fetch_part()
            self.check(self.part)
        except (DamagedFile, _Unusable) as error:
            self._discard()
            raise _Unusable(str(error).removeprefix(f"{self.part}: ")) from error
        with explain_disk_errors(self.target):
            with self.part.open("rb+") as file:
                os.fsync(file.fileno())
            self.part.replace(self.target)
            for leftover in self.target.parent.glob(f".{glob.escape(self.target.name)}.????????.part*"):
                leftover.unlink(missing_ok=True)

    def _fetch_part(self) -> None:
        try:
            pieces = urlsplit(self.url)
        except ValueError as error:
            raise _Unusable(f"not a URL ({error})") from error
        if pieces.scheme == "file":
            self._copy(pieces)
        elif pieces.scheme in ("http", "https"):
            self._download()
        else:
            raise _Unusable(f"scheme {pieces.scheme!r} is not supported, expected http, https or file")

    def _copy(self, pieces: SplitResult) -> None:
        if pieces.netloc not in ("", "localhost"):
            raise _Unusable(f"file URL has the host {pieces.netloc!r}, expected file:///absolute/path")
        source = Path(url2pathname(pieces.path))
        if not source.is_file():
            raise _Unusable(f"a folder, and not {self.content}" if source.is_dir() else "no such file")
        self._receive(_chunks_of(source), start=0, total=source.stat().st_size)

    def _download(self) -> None:
        """Download the rest of the part if the mirror can resume, else all of it."""
        size, note = self._resumable() or (0, None)
        with contextlib.closing(_transfer(self.url, self.limits, size, note)) as items:
            response: _Response = next(items)
            if note and response.status == 416 and size == note.total:  # the part is complete
                return
            if note and response.resumes(size, note):
                logger.info("%s: resuming from %s at byte %d", self.target.name, self.url, size)
                total = note.total or (None if response.length is None else size + response.length)
                self._receive(items, start=size, total=total)
                return
            if note is None or response.status not in (206, 416):
                if response.status != 200:
                    raise _MirrorFailed(f"HTTP {response.status}")
                note = _Note(self.url, response.validator, response.length)
                with explain_disk_errors(self.target):  # in this order: old bytes never get a new note
                    self.part.write_bytes(b"")
                    self.note.write_text(json.dumps(asdict(note)), encoding="utf-8")
                self._receive(items, start=0, total=response.length)
                return
        logger.info("%s: %s cannot resume at byte %d, starting over", self.target.name, self.url, size)
        self._discard()
        self._download()

    def _receive(self, chunks: Iterator[bytes], *, start: int, total: int | None) -> None:
        """Append the body to the part; total is the size of the full file, None if unknown."""
        self._refuse_large(total or 0)
        done = counted = start
        began = since = time.monotonic()  # since: the start of a window, with counted bytes before it
        self._report(done, total)
        with explain_disk_errors(self.target), self.part.open("ab" if start else "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                done += len(chunk)
                self._refuse_large(done)
                self._report(done, total)
                now = time.monotonic()
                if done != total and now - since >= self.limits.window_seconds:
                    if (speed := (done - counted) / (now - since)) < self.min_speed:
                        raise _TooSlow(f"too slow: {speed / 1000:.3g} kB/s")
                    since, counted = now, done
                self._warn_if_long(now - began, done - start, (total or 0) - done)
        if total is not None and done < total:
            raise _MirrorFailed(f"body ended after {done} of {total} bytes")
        if total is not None and done > total:
            raise _Unusable(f"sent {done} bytes, expected {total}")

    def _warn_if_long(self, elapsed: float, received: int, missing: int) -> None:
        """Warn once if the missing bytes will take long at the speed so far, with advice on alternatives."""
        seconds, limits = missing * elapsed / received, self.limits
        if elapsed > limits.notice_seconds and seconds > limits.long_seconds and not self.warned:
            self.warned = True
            left = format_duration(seconds)
            logger.warning("%s: about %s left from %s. %s", self.target.name, left, self.url, self.advice)

    def _resumable(self) -> tuple[int, _Note] | None:
        """Return the size and the note of a part that can be resumed, or None."""
        try:
            note = _Note(**json.loads(self.note.read_text(encoding="utf-8")))
            size = self.part.stat().st_size
        except (OSError, ValueError, TypeError):  # no part, or a note truncated by a kill
            return None
        valid = note.url == self.url and isinstance(note.validator, str)
        valid = valid and isinstance(note.total, int | None) and size > 0
        return (size, note) if valid else None

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _report(self, done: int, total: int | None) -> None:
        self.progress(f"download {self.target.name}", done, total or 0, "bytes")

    def _refuse_large(self, size: int) -> None:
        limit = self.limits.size_limit
        if size > limit:
            raise _Unusable(f"too large: at least {size} bytes, expected at most {limit}")


def _chunks_of(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb") as file:
            while chunk := file.read(COPY_BYTES):
                yield chunk
    except OSError as error:
        raise _Unusable(f"could not be read ({error.strerror})") from error


@dataclass(frozen=True)
class _Response:
    status: int
    headers: Mapping[str, str]
    length: int | None  # of the body in bytes

    @property
    def validator(self) -> str | None:
        """The value for If-Range: a strong ETag, else the Last-Modified date (RFC 9110, 13.1.5)."""
        etag, modified = self.headers.get("ETag", ""), self.headers.get("Last-Modified", "")
        if STRONG_ETAG.fullmatch(etag):
            return etag
        return modified if PRINTABLE.fullmatch(modified) else None

    def resumes(self, size: int, note: _Note) -> bool:
        """Return whether this is a 206 with the rest of the same version of the file."""
        match = CONTENT_RANGE.fullmatch(self.headers.get("Content-Range", ""))
        if self.status != 206 or not match or int(match[1]) != size:
            return False
        same_total = note.total is None or match[2] in ("*", str(note.total))
        return same_total and self.validator in (None, note.validator)


def _transfer(url: str, limits: TransferLimits, size: int, note: _Note | None) -> Generator[Any, None, None]:
    """Yield the response to a GET, then its body in chunks as sent; raise _MirrorFailed on errors and stalls.

    With a note, only the bytes from size on are requested. The GET runs in a thread, so that the caller can
    stop waiting for it: socket timeouts do not limit DNS lookups, chains of redirects, or headers that arrive
    byte by byte; a queue between the thread and the reader does. The thread ends at most stall_seconds after
    the caller closes the generator.
    """
    # Range counts uncompressed bytes, so the body must not be compressed.
    headers = {"Accept-Encoding": "identity"}
    if note:
        headers |= {"Range": f"bytes={size}-", "If-Range": str(note.validator)}
    timeouts = (limits.connect_seconds, limits.stall_seconds)
    items: queue.Queue[Any] = queue.Queue(QUEUED_CHUNKS)
    abandoned = threading.Event()

    def work() -> None:
        try:
            with (
                requests.Session() as session,  # supports http and https only, for redirects too
                session.get(url, headers=headers, stream=True, timeout=timeouts) as response,
            ):
                raw = response.raw
                items.put(_Response(response.status_code, response.headers, raw.length_remaining))
                raw.enforce_content_length = False  # the reader reports missing bytes itself
                for chunk in raw.stream(NETWORK_CHUNK_BYTES, decode_content=False):
                    if abandoned.is_set():
                        return
                    items.put(chunk)
            items.put(None)
        except Exception as error:  # the reader turns any error into a message
            items.put(error)

    threading.Thread(target=work, daemon=True).start()
    seconds = sum(timeouts)
    try:
        while (item := items.get(timeout=seconds)) is not None:
            if isinstance(item, Exception):
                raise _MirrorFailed(_describe_error(item, limits)) from item
            yield item
            seconds = limits.stall_seconds
    except queue.Empty:
        raise _MirrorFailed(f"stalled for {seconds:g} s") from None
    finally:
        abandoned.set()
        with contextlib.suppress(queue.Empty):
            while True:  # make room in case the thread is blocked on a full queue
                items.get_nowait()


def _describe_error(error: Exception, limits: TransferLimits) -> str:
    """Return a short description of a network error's root cause; libraries wrap it several times."""
    if isinstance(error, ConnectTimeout):
        return f"no connection within {limits.connect_seconds:g} s"
    reasons = {
        ConnectionRefusedError: "connection refused",
        ConnectionResetError: "connection reset by the server",
        socket.gaierror: "no such host, or no network",
        TimeoutError: f"stalled for {limits.stall_seconds:g} s",
        ssl.SSLError: "no secure connection ({})",
    }
    cause: BaseException = error
    while True:
        if reason := next((reason for kind, reason in reasons.items() if isinstance(cause, kind)), None):
            return reason.format(cause)
        inner = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
        if inner is None:
            return str(cause)[:200] or type(cause).__name__
        cause = inner
