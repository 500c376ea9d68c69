"""Downloads survive kills and broken or slow mirrors, and leave either the right file or none."""

from __future__ import annotations

import hashlib
import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.download.fetch import TransferLimits, fetch
from pipeline.errors import BadInput, DamagedFile, DownloadFailed

ROOT = Path(__file__).parents[2]
BODY = random.Random(0).randbytes(120_000)
HALF = len(BODY) // 2
HTML = b"<!DOCTYPE html><title>Down for maintenance</title>"
FAST_LIMITS = TransferLimits(connect_seconds=1, stall_seconds=0.8, window_seconds=0.3)


def check(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != hashlib.sha256(BODY).hexdigest():
        raise DamagedFile(f"{path}: sha256 differs: found {digest}")


def attempt(target: Path, *mirrors, limits: TransferLimits = FAST_LIMITS, **options) -> str:
    """Fetch from mirrors or URLs."""
    return fetch(
        [getattr(mirror, "url", mirror) for mirror in mirrors], target, check, limits=limits, **options
    )


def interrupted(target: Path, mirror, sent: int = HALF) -> None:
    """Leave a part of about sent bytes from mirror, which works again afterwards."""
    mirror.stops_after = sent
    with pytest.raises(DownloadFailed):
        attempt(target, mirror)
    mirror.stops_after = None
    mirror.requests.clear()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def part_of(target: Path) -> Path:
    (part,) = target.parent.glob(".*.part")
    return part


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "data" / "file.bin"


@pytest.fixture
def dead_url() -> Iterator[str]:
    """A URL on a port of this machine that is bound but not listening."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}/file.bin"


def test_a_download_leaves_the_complete_file_and_nothing_else(mirrors, target):
    mirror = mirrors(BODY)
    assert attempt(target, mirror) == mirror.url
    assert target.read_bytes() == BODY
    assert names_in(target.parent) == ["file.bin"]
    assert mirror.requests[0]["Accept-Encoding"] == "identity"


def test_progress_counts_bytes_up_to_the_total(mirrors, target):
    reports = []
    attempt(target, mirrors(BODY), progress=lambda *report: reports.append(report))
    assert reports[0] == ("download file.bin", 0, len(BODY), "bytes")
    assert reports[-1] == ("download file.bin", len(BODY), len(BODY), "bytes")
    assert [done for _, done, _, _ in reports] == sorted(done for _, done, _, _ in reports)


CHILD = """
import sys
from pathlib import Path
from pipeline.download.fetch import TransferLimits, fetch
fetch([sys.argv[1]], Path(sys.argv[2]), lambda path: None, limits=TransferLimits(stall_seconds=30))
"""


def test_fault_01_a_rerun_resumes_a_download_killed_halfway(mirrors, target):
    mirror = mirrors(BODY, stalls_after=HALF)
    child = subprocess.Popen([sys.executable, "-c", CHILD, mirror.url, str(target)], cwd=ROOT)
    try:
        wait_for(lambda: any(part.stat().st_size > HALF // 2 for part in target.parent.glob(".*.part")))
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    part = part_of(target)
    size = part.stat().st_size
    assert part.read_bytes() == BODY[:size]
    assert names_in(target.parent) == [part.name, part.name + ".json"]

    mirror.stalls_after = None
    attempt(target, mirror)
    assert mirror.ranges == [None, f"bytes={size}-"]
    assert mirror.requests[1]["If-Range"] == '"first"'
    assert target.read_bytes() == BODY
    assert names_in(target.parent) == ["file.bin"]


def wait_for(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition was not met in time"
        time.sleep(0.02)


def test_fault_02_a_short_body_is_an_error_and_is_kept_for_the_rerun(mirrors, target):
    mirror = mirrors(BODY, stops_after=HALF)
    with pytest.raises(DownloadFailed, match=f"body ended after {HALF} of {len(BODY)} bytes"):
        attempt(target, mirror)
    assert not target.exists()
    assert part_of(target).read_bytes() == BODY[:HALF]


def test_fault_02_after_a_short_body_the_next_mirror_is_tried(mirrors, target):
    short, working = mirrors(BODY, stops_after=HALF), mirrors(BODY)
    assert attempt(target, short, working) == working.url
    assert names_in(target.parent) == ["file.bin"]


def test_fault_02_an_html_page_with_status_200_is_removed_and_the_next_mirror_is_tried(mirrors, target):
    page, working = mirrors(HTML), mirrors(BODY)
    with pytest.raises(DownloadFailed, match=f"{page.url}: sha256 differs: found"):
        attempt(target, page)
    assert names_in(target.parent) == []
    assert attempt(target, page, working) == working.url


def test_fault_03_a_mirror_that_ignores_range_restarts_the_download(mirrors, target):
    mirror = mirrors(BODY)
    interrupted(target, mirror)
    mirror.supports_range = False
    attempt(target, mirror)
    assert mirror.ranges == [f"bytes={HALF}-"]
    assert target.read_bytes() == BODY


def test_fault_03_a_changed_file_restarts_the_download(mirrors, target):
    mirror = mirrors(BODY[::-1], etag='"old"')
    interrupted(target, mirror)
    mirror.body, mirror.etag = BODY, '"new"'
    attempt(target, mirror)
    assert mirror.ranges == [f"bytes={HALF}-"]
    assert target.read_bytes() == BODY


WRONG_CONTENT_RANGES = {
    "another start": f"bytes 0-{len(BODY) - 1}/{len(BODY)}",
    "another total": f"bytes {HALF}-{len(BODY)}/{len(BODY) + 1}",
    "not a range": "bytes",
    "no header": "",
}


@pytest.mark.parametrize("content_range", WRONG_CONTENT_RANGES.values(), ids=WRONG_CONTENT_RANGES)
def test_fault_03_a_wrong_content_range_restarts_the_download(mirrors, target, content_range):
    mirror = mirrors(BODY)
    interrupted(target, mirror)
    mirror.content_range = content_range
    attempt(target, mirror)
    assert mirror.ranges == [f"bytes={HALF}-", None]
    assert target.read_bytes() == BODY


def test_fault_03_a_206_for_another_version_restarts_the_download(mirrors, target):
    mirror = mirrors(BODY[::-1], etag='"old"')
    interrupted(target, mirror)
    mirror.body, mirror.etag, mirror.respects_if_range = BODY, '"new"', False
    attempt(target, mirror)
    assert mirror.ranges == [f"bytes={HALF}-", None]
    assert target.read_bytes() == BODY


def test_fault_03_a_416_for_a_complete_part_proceeds_to_the_check(mirrors, target):
    mirror = mirrors(BODY)
    interrupted(target, mirror)
    part_of(target).write_bytes(BODY)
    attempt(target, mirror)
    assert mirror.ranges == [f"bytes={len(BODY)}-"]
    assert target.read_bytes() == BODY


def test_fault_03_a_416_for_another_size_restarts_the_download(mirrors, target):
    mirror = mirrors(BODY)
    interrupted(target, mirror)
    part_of(target).write_bytes(BODY + b"more")
    attempt(target, mirror)
    assert mirror.ranges == [f"bytes={len(BODY) + 4}-", None]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("etag", [None, 'W/"weak"', "unquoted"])
def test_fault_03_without_a_strong_validator_a_rerun_restarts_the_download(mirrors, target, etag):
    mirror = mirrors(BODY, etag=etag)
    interrupted(target, mirror)
    attempt(target, mirror)
    assert mirror.ranges == [None]
    assert target.read_bytes() == BODY


def test_last_modified_replaces_a_weak_etag(mirrors, target):
    mirror = mirrors(BODY, etag='W/"weak"', last_modified="Thu, 04 Jun 2009 19:58:09 GMT")
    interrupted(target, mirror)
    attempt(target, mirror)
    assert mirror.ranges == [f"bytes={HALF}-"]
    assert mirror.requests[0]["If-Range"] == "Thu, 04 Jun 2009 19:58:09 GMT"
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("note", ["", '{"url": "http', "[1]", '{"url": 1, "validator": 2, "total": "x"}'])
def test_a_part_with_a_damaged_note_is_downloaded_again(mirrors, target, note):
    mirror = mirrors(BODY)
    interrupted(target, mirror)
    Path(f"{part_of(target)}.json").write_text(note)
    attempt(target, mirror)
    assert mirror.ranges == [None]
    assert target.read_bytes() == BODY


def test_the_note_keeps_url_validator_and_total(mirrors, target):
    mirror = mirrors(BODY)
    interrupted(target, mirror)
    note = json.loads(Path(f"{part_of(target)}.json").read_text())
    assert note == {"url": mirror.url, "validator": '"first"', "total": len(BODY)}


def test_fault_04_a_stalled_mirror_is_replaced_by_the_next(mirrors, target):
    stalled, working = mirrors(BODY, stalls_after=HALF), mirrors(BODY)
    started = time.monotonic()
    assert attempt(target, stalled, working) == working.url
    assert time.monotonic() - started < 3
    assert target.read_bytes() == BODY


def test_fault_04_headers_that_arrive_byte_by_byte_do_not_block_the_download(mirrors, target):
    mirror = mirrors(BODY, trickles_headers=True)
    started = time.monotonic()
    with pytest.raises(DownloadFailed, match=r"stalled for 1\.8 s"):
        attempt(target, mirror)
    assert time.monotonic() - started < 4


def test_fault_04_a_slow_mirror_is_replaced_by_a_faster_one(mirrors, target):
    slow, working = mirrors(BODY, bytes_per_second=60_000), mirrors(BODY)
    assert attempt(target, slow, working) == working.url


def test_fault_04_a_slow_mirror_is_resumed_when_the_others_are_dead(mirrors, target, dead_url):
    slow = mirrors(BODY, bytes_per_second=90_000)
    assert attempt(target, slow, dead_url) == slow.url
    assert slow.ranges[0] is None
    assert slow.ranges[1].startswith("bytes=")
    assert target.read_bytes() == BODY


def test_fault_04_the_only_mirror_may_be_slow_from_the_start(mirrors, target):
    slow = mirrors(BODY, bytes_per_second=90_000)
    attempt(target, slow)
    assert slow.ranges == [None]


def test_fault_04_the_last_resort_also_has_a_speed_limit(mirrors, target):
    slow = mirrors(BODY, bytes_per_second=40_000)
    limits = TransferLimits(stall_seconds=1, window_seconds=0.3, last_resort_bytes_per_second=90_000)
    with pytest.raises(DownloadFailed, match=r"too slow: \d+(\.\d+)? kB/s"):
        attempt(target, slow, limits=limits)


def test_a_download_that_will_take_long_says_how_long_and_what_else_to_do(mirrors, target, caplog):
    slow = mirrors(BODY, bytes_per_second=90_000)
    limits = TransferLimits(stall_seconds=30, window_seconds=60, notice_seconds=0.2, long_seconds=0.3)
    attempt(target, slow, limits=limits, advice="Use a copy")
    (line,) = {record.message for record in caplog.records if "left from" in record.message}
    assert re.fullmatch(rf"file\.bin: about \d\.\d+ s left from {slow.url}\. Use a copy", line)
    caplog.clear()
    attempt(target.with_name("other.bin"), mirrors(BODY), advice="Use a copy")
    assert "left from" not in caplog.text


def test_a_complete_file_is_never_too_slow(mirrors, target):
    strict = TransferLimits(window_seconds=0, last_resort_bytes_per_second=float("inf"))
    fetch([mirrors(b"one chunk").url], target, lambda path: None, limits=strict)
    assert target.read_bytes() == b"one chunk"


def test_fault_04_when_all_mirrors_fail_each_is_listed_with_its_reason(mirrors, target, dead_url, tmp_path):
    missing, stalled, page = mirrors(BODY, status=404), mirrors(BODY, stalls_after=0), mirrors(HTML)
    absent = (tmp_path / "absent").as_uri()
    with pytest.raises(DownloadFailed) as caught:
        attempt(
            target, dead_url, missing, stalled, page, absent, "ftp://host/x", advice="Use your own mirror"
        )
    first, *reasons, advice = str(caught.value).splitlines()
    assert first == "file.bin: no mirror provided the file"
    assert reasons[:3] == [
        f"  {dead_url}: connection refused",
        f"  {missing.url}: HTTP 404",
        f"  {stalled.url}: stalled for 0.8 s",
    ]
    assert reasons[3].startswith(f"  {page.url}: sha256 differs: found ")
    assert reasons[4:] == [
        f"  {absent}: no such file",
        "  ftp://host/x: scheme 'ftp' is not supported, expected http, https or file",
    ]
    assert advice == "Use your own mirror"
    assert not target.exists()


def test_a_file_above_the_size_limit_is_refused_before_it_is_sent(mirrors, target):
    with pytest.raises(DownloadFailed, match="expected at most 1000"):
        attempt(target, mirrors(BODY), limits=TransferLimits(size_limit=1000))
    assert names_in(target.parent) == []


def test_a_body_of_unknown_length_stops_at_the_limit(mirrors, target):
    with pytest.raises(DownloadFailed, match="expected at most 60000"):
        attempt(target, mirrors(BODY, declares_length=False), limits=TransferLimits(size_limit=60_000))
    assert names_in(target.parent) == []


def test_a_body_of_unknown_length_is_accepted_if_its_check_passes(mirrors, target):
    attempt(target, mirrors(BODY, declares_length=False))
    assert target.read_bytes() == BODY


def test_a_chunked_body_is_accepted_and_a_truncated_one_is_not(mirrors, target):
    mirror = mirrors(BODY, chunked=True, stops_after=HALF)
    with pytest.raises(DownloadFailed, match="Response ended prematurely"):
        attempt(target, mirror)
    mirror.stops_after = None
    attempt(target, mirror)
    assert mirror.ranges == [None, f"bytes={HALF}-"]
    assert target.read_bytes() == BODY


def test_a_redirect_is_followed_to_http_but_not_to_a_file(mirrors, target, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(BODY)
    working = mirrors(BODY)
    attempt(target, mirrors(BODY, moved_to=working.url))
    target.unlink()
    with pytest.raises(DownloadFailed, match="No connection adapters"):
        attempt(target, mirrors(BODY, moved_to=secret.as_uri()))
    assert not target.exists()


def test_a_file_url_with_escaped_characters_is_copied(target, tmp_path):
    source = tmp_path / "with space & 100 %#.bin"
    source.write_bytes(BODY)
    assert "%20" in source.as_uri()
    assert attempt(target, source.as_uri()) == source.as_uri()
    assert target.read_bytes() == source.read_bytes() == BODY
    assert names_in(target.parent) == ["file.bin"]


def test_a_file_url_of_another_host_is_refused(target):
    with pytest.raises(DownloadFailed, match="file URL has the host 'server', expected file:///"):
        attempt(target, "file://server/share/file.bin")


def test_parts_of_other_files_in_the_folder_are_left_alone(mirrors, target):
    other = target.parent / ".other-file.bin.01234567.part"
    other.parent.mkdir()
    other.write_bytes(b"x")
    attempt(target, mirrors(BODY))
    assert names_in(target.parent) == [other.name, "file.bin"]


def test_a_target_is_unchanged_when_no_mirror_provides_the_file(mirrors, target):
    target.parent.mkdir()
    target.write_bytes(b"yesterday's")
    with pytest.raises(DownloadFailed):
        attempt(target, mirrors(HTML))
    assert target.read_bytes() == b"yesterday's"


FULL_DISK = """
import resource, sys
from pathlib import Path
from pipeline.download.fetch import fetch
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
fetch(sys.argv[2:], Path(sys.argv[1]), lambda path: None)
"""


def test_a_full_disk_is_reported_and_no_mirror_is_blamed(mirrors, target):
    first, second = mirrors(BODY), mirrors(BODY)
    command = [sys.executable, "-c", FULL_DISK, str(target), first.url, second.url]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    error = child.stderr.splitlines()[-1]
    assert error.startswith(
        f"pipeline.errors.HeadstartError: {target}: could not be written (File too large)"
    )
    assert "Free up space" in error
    assert second.requests == []
    assert not target.exists()


def test_an_empty_list_of_urls_is_refused(target):
    with pytest.raises(BadInput, match="expected at least one URL"):
        attempt(target)
