"""A mirror on the loopback interface that can misbehave on request and records the requests it gets."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

PIECE = 2048


@dataclass
class Mirror:
    """What the server does next; it works correctly by default. Sizes in bytes, times in seconds."""

    body: bytes
    etag: str | None = '"first"'
    last_modified: str | None = None
    status: int | None = None  # instead of the file
    supports_range: bool = True
    respects_if_range: bool = True
    content_range: str | None = None  # instead of the correct one
    declares_length: bool = True
    chunked: bool = False
    stops_after: int | None = None  # closes the connection in the middle of the body
    stalls_after: int | None = None  # stops sending in the middle of the body, until released
    trickles_headers: bool = False
    bytes_per_second: float | None = None
    moved_to: str | None = None
    url: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each request so far."""
        return [request.get("Range") for request in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mirror: Mirror

    def do_GET(self) -> None:
        self.mirror.requests.append(dict(self.headers))
        with contextlib.suppress(ConnectionError):  # the client may disconnect at any time
            self._respond()

    def log_message(self, *_: object) -> None:
        pass

    def _respond(self) -> None:
        mirror = self.mirror
        if mirror.trickles_headers:
            self._trickle()
        elif mirror.moved_to:
            self._head(302, {"Location": mirror.moved_to, "Content-Length": "0"})
        elif mirror.status:
            self._head(mirror.status, {"Content-Length": "0"})
        else:
            self._send_file(self._start())

    def _start(self) -> int | None:
        """Return the first byte that a valid Range requests, or None for the full file."""
        requested = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not requested or not self.mirror.supports_range:
            return None
        condition = self.headers.get("If-Range")
        changed = condition not in (None, self.mirror.etag, self.mirror.last_modified)
        return None if changed and self.mirror.respects_if_range else int(requested[1])

    def _send_file(self, start: int | None) -> None:
        mirror, total = self.mirror, len(self.mirror.body)
        headers = {"ETag": mirror.etag, "Last-Modified": mirror.last_modified}
        if start is not None and start >= total:
            self._head(416, {"Content-Range": f"bytes */{total}", "Content-Length": "0"})
            return
        rest = mirror.body[start or 0 :]
        if start is not None:
            correct = f"bytes {start}-{total - 1}/{total}"
            headers["Content-Range"] = correct if mirror.content_range is None else mirror.content_range
        if mirror.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif mirror.declares_length:
            headers["Content-Length"] = str(len(rest))
        self._head(200 if start is None else 206, headers)
        self._send_body(rest)

    def _head(self, status: int, headers: dict[str, str | None]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def _send_body(self, rest: bytes) -> None:
        mirror = self.mirror
        end = len(rest) if mirror.stops_after is None else mirror.stops_after
        for start in range(0, min(end, len(rest)), PIECE):
            if mirror.stalls_after is not None and start >= mirror.stalls_after:
                self.wfile.flush()
                mirror.released.wait(20)
                return
            self._send_piece(rest[start : min(start + PIECE, end)])
            if mirror.bytes_per_second:
                time.sleep(PIECE / mirror.bytes_per_second)

        if mirror.chunked and mirror.stops_after is None:
            self._send_piece(b"")

    def _send_piece(self, piece: bytes) -> None:
        if self.mirror.chunked:
            piece = b"%x\r\n%s\r\n" % (len(piece), piece)
        self.wfile.write(piece)

    def _trickle(self) -> None:
        while not self.mirror.released.wait(0.1):
            self.wfile.write(b"x")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnected."""


@pytest.fixture
def mirrors(monkeypatch) -> Iterator[Callable[..., Mirror]]:
    """Start a mirror on a free port for each call; the arguments are those of Mirror."""
    monkeypatch.setenv("NO_PROXY", "*")
    running: list[tuple[Server, Mirror]] = []

    def start(body: bytes, name: str = "file.bin", **behavior) -> Mirror:
        mirror = Mirror(body, **behavior)
        server = Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"mirror": mirror}))
        mirror.url = f"http://127.0.0.1:{server.server_port}/{name}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        running.append((server, mirror))
        return mirror

    yield start
    for server, mirror in running:
        mirror.released.set()
        server.shutdown()
        server.server_close()
