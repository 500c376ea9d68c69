"""Files and folders are published atomically, despite kills, full disks and damage."""

from __future__ import annotations

import errno
import json
import os
import select
import subprocess
import sys

import pandas as pd
import pytest

from pipeline.errors import BadInput, DamagedFile, HeadstartError
from pipeline.storage.publishing import (
    MANIFEST,
    check_publishable,
    explain_disk_errors,
    publish_csv,
    publish_json,
    publish_manifest,
    publish_sealed,
    publish_text,
    published,
    read_manifest,
    read_sealed,
    sha256_of,
    undamaged_files,
    why_incomplete,
)

FINGERPRINT = {"split": {"name": "a"}, "size": 32}

WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from pipeline.storage.publishing import published
with published(Path(sys.argv[1])) as scratch:
    scratch.write_text("half a ne")
    print(scratch, flush=True)
    time.sleep(60)
"""

CLAIM_AND_WAIT = """
import sys, time
from pathlib import Path
from pipeline.storage.publishing import claimed
with claimed(Path(sys.argv[1])):
    print("claimed", flush=True)
    time.sleep(60)
"""

CLAIM_AND_COUNT = """
import sys, time
from pathlib import Path
from pipeline.storage.publishing import claimed
for _ in range(20):
    with claimed(Path(sys.argv[1])):
        count = int(Path(sys.argv[2]).read_text())
        time.sleep(0.002)
        Path(sys.argv[2]).write_text(str(count + 1))
"""

# In this process, writes past 100,000 bytes fail as on a full disk.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from pipeline.storage import hdf5
from pipeline.errors import HeadstartError
from pipeline.storage.publishing import publish_json, published
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
target = Path(sys.argv[1])
try:
{body}
except HeadstartError as error:
    print(error)
"""


def scratch_files(folder) -> list[str]:
    return [path.name for path in folder.iterdir() if ".scratch-" in path.name]


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("old")
    return path


@pytest.fixture
def folder(tmp_path):
    """A finished folder with two files."""
    (tmp_path / "a.bin").write_bytes(bytes(range(200)))
    (tmp_path / "b.txt").write_text("b")
    publish_manifest(tmp_path, FINGERPRINT, ["a.bin", "b.txt"], {"rows": 7})
    return tmp_path


def rewrite_manifest(folder, **changes) -> None:
    """Replace fields of a folder's manifest."""
    publish_sealed(folder / MANIFEST, {**read_sealed(folder / MANIFEST), **changes})


def test_the_scratch_file_becomes_the_target_atomically(target):
    with published(target) as scratch:
        scratch.write_text("new")
        assert target.read_text() == "old"
        assert (scratch.parent, scratch.suffix) == (target.parent, ".txt")
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    "name", ["y" * 255, "é" * 127, "a**b[0]?.csv", "a." + "b" * 250, os.fsdecode(b"\xe9 \n.txt")]
)
def test_a_file_of_any_name_is_published(tmp_path, name):
    check_publishable(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    publish_text(tmp_path / name, os.fsdecode(b"caf\xe9"))
    assert (tmp_path / name).read_text() == r"caf\udce9"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["y" * 256, "folder", "pipe", "nowhere/a.txt", "file/a.txt"])
def test_a_place_where_no_file_can_be_published_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="expected a file in an existing folder that can be written"):
        check_publishable(tmp_path / name)


def test_a_folder_is_published_like_a_file(tmp_path):
    with published(tmp_path / "model") as scratch:
        scratch.mkdir()
        (scratch / "a").write_text("a")
    assert (tmp_path / "model" / "a").read_text() == "a"
    with pytest.raises(ZeroDivisionError), published(tmp_path / "other") as scratch:
        scratch.mkdir()
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_no_text_of_a_csv_file_is_a_formula(tmp_path):
    columns = {"name": ["=1+1", "-x", "a=b", None], "value": [-1.5, 0.1, 2, 3]}
    table = pd.DataFrame(columns).astype({"value": "float32"})
    publish_csv(tmp_path / "a.csv", table)
    assert (tmp_path / "a.csv").read_text() == "name,value\n'=1+1,-1.5\n'-x,0.1\na=b,2.0\n,3.0\n"
    publish_csv(tmp_path / "b.csv", table[:0])
    assert (tmp_path / "b.csv").read_text() == "name,value\n"


def test_missing_folders_are_created(tmp_path):
    publish_json(tmp_path / "a" / "b.json", {"é": 1})
    assert json.loads((tmp_path / "a" / "b.json").read_text(encoding="utf-8")) == {"é": 1}


def test_a_block_that_raises_leaves_the_old_file_and_no_scratch(target):
    with pytest.raises(ZeroDivisionError), published(target) as scratch:
        scratch.write_text("half a ne")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_a_block_that_writes_nothing_is_an_error(target):
    with pytest.raises(HeadstartError, match="report.txt: no file was written"), published(target):
        pass
    assert target.read_text() == "old"


def test_a_read_only_file_can_be_published(tmp_path):
    """Files of users are linked without changes; root can write to any file, so another user publishes."""
    code = (
        "import os, sys; from pathlib import Path; from pipeline.storage.publishing import published\n"
        "os.chdir(sys.argv[1])\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "with published(Path('mine.h5')) as scratch:\n"
        "    scratch.write_text('x')\n"
        "    scratch.chmod(0o444)\n"
    )
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    subprocess.run([sys.executable, "-c", code, tmp_path / "open"], check=True, timeout=60)
    assert (tmp_path / "open" / "mine.h5").read_text() == "x"


def test_fault_09_a_killed_writer_leaves_the_old_file_and_the_next_writer_cleans_up(target, start_script):
    writer = start_script(WRITE_AND_WAIT, target)
    writer.stdout.readline()
    writer.kill()
    writer.wait()
    assert target.read_text() == "old"
    assert len(scratch_files(target.parent)) == 1
    publish_text(target, "new")
    assert target.read_text() == "new"
    assert scratch_files(target.parent) == []


def test_the_scratch_file_of_a_running_process_is_left_alone(target, start_script):
    writer = start_script(WRITE_AND_WAIT, target)
    writer.stdout.readline()
    publish_text(target, "new")
    assert len(scratch_files(target.parent)) == 1


def test_scratch_files_of_other_targets_and_other_machines_are_left_alone(target):
    others = [".other.scratch-host_999999999-aaaaaaaa.txt", ".report.scratch-host_999999999-aaaaaaaa.txt"]
    for name in others:
        (target.parent / name).touch()
    publish_text(target, "new")
    assert sorted(scratch_files(target.parent)) == others


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_fault_09_the_old_file_is_kept_whatever_step_fails(target, monkeypatch, step):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(HeadstartError, match=r"report.txt: could not be written \(Input/output error\)"):
            publish_text(target, "new")
    assert target.read_text() == "old"
    assert scratch_files(target.parent) == []


def full_disk(body: str, target) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", FULL_DISK.format(body=body), target]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def assert_refused_and_intact(done: subprocess.CompletedProcess, target) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{target}: could not be written (File too large); nothing was published.")
    assert "Free up space" in done.stdout
    assert target.read_text() == "old"
    assert scratch_files(target.parent) == []


@pytest.mark.parametrize("values", [1_000_000, 15_000], ids=["at once", "when closed"])
def test_fault_10_a_full_disk_while_hdf5_is_written_is_reported_and_publishes_nothing(target, values):
    body = (
        "    with published(target) as scratch, hdf5.created(scratch) as file:\n"
        f"        hdf5.write_array(file, 'a', np.arange({values}.0))"
    )
    assert_refused_and_intact(full_disk(body, target), target)


def test_fault_11_a_full_disk_while_a_report_is_written_keeps_the_old_one(target):
    assert_refused_and_intact(full_disk("    publish_json(target, ['x'] * 100_000)", target), target)


def test_fault_12_a_read_only_folder_is_reported_with_what_to_do():
    with (
        pytest.raises(HeadstartError, match=r"Read-only file system.* set HEADSTART_DATA_DIR"),
        explain_disk_errors("x"),
    ):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_an_error_that_is_not_from_the_disk_is_not_converted(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        publish_text(tmp_path / "file" / "report.txt", "new")


def test_a_manifest_reads_back_as_it_was_written(folder):
    manifest = read_manifest(folder)
    assert (manifest.fingerprint, manifest.facts, manifest.bytes) == (FINGERPRINT, {"rows": 7}, 201)
    assert manifest.verified("a.bin") == folder / "a.bin"
    assert why_incomplete(folder, FINGERPRINT) is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:150]), "a.bin: expected 200 bytes, found 150"),
        (lambda path: path.unlink(), "a.bin: expected 200 bytes, found no file"),
    ],
    ids=["truncated", "missing"],
)
def test_fault_14_a_folder_with_a_truncated_or_missing_file_is_incomplete(folder, damage, message):
    damage(folder / "a.bin")
    assert message in why_incomplete(folder, FINGERPRINT)
    with pytest.raises(DamagedFile, match=message):
        read_manifest(folder).verified("a.bin")
    assert read_manifest(folder).verified("b.txt")


def test_fault_13_a_flipped_bit_is_detected_before_the_file_is_used(folder, flip_byte):
    flip_byte(folder / "a.bin")
    with pytest.raises(DamagedFile, match="a.bin: expected sha256 .* found .* delete it and run again"):
        read_manifest(folder).verified("a.bin")


def test_a_file_that_the_manifest_does_not_list_is_refused(folder):
    (folder / "c.txt").touch()
    with pytest.raises(DamagedFile, match="c.txt: not listed in"):
        read_manifest(folder).verified("c.txt")


def test_fault_09_a_manifest_truncated_anywhere_is_refused(folder):
    complete = (folder / MANIFEST).read_bytes()
    for length in range(0, len(complete) - 2, 23):
        (folder / MANIFEST).write_bytes(complete[:length])
        with pytest.raises(DamagedFile, match="manifest.json: not a manifest of this project"):
            read_manifest(folder)


ENTRY = {"bytes": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": {"weights": {"name": "imagenet"}, "size": 32}},
        {"key": "0" * 12},
        {"format": 2},
        {"files": {"../a.bin": ENTRY}},
        {"files": {"a/../../b": ENTRY}},
        {"files": {"/etc/hostname": ENTRY}},
        {"files": {"a.bin": {**ENTRY, "bytes": "1"}}},
        {"files": {"a.bin": {**ENTRY, "sha256": "0"}}},
    ],
    ids=json.dumps,
)
def test_a_manifest_that_contradicts_itself_or_leaves_its_folder_is_refused(folder, changes):
    rewrite_manifest(folder, **changes)
    with pytest.raises(DamagedFile, match="key does not match its fingerprint, or an entry is malformed"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["n" * 300, "n\0", "\ud800"])
def test_a_name_that_the_file_system_does_not_support_is_a_missing_file(folder, name):
    manifest = publish_manifest(folder, FINGERPRINT, {name: ENTRY})
    assert manifest.missing().endswith("expected 1 bytes, found no file")
    assert undamaged_files(folder, {}) == set()
    with pytest.raises(DamagedFile, match="found no file"):
        manifest.verified(name)


@pytest.mark.parametrize("changes", [{"fingerprint": [], "key": "4f53cda18c2b"}, {"facts": []}])
def test_a_manifest_whose_fingerprint_or_facts_are_not_objects_is_refused(folder, changes):
    rewrite_manifest(folder, **changes)
    with pytest.raises(DamagedFile, match="expected objects as fingerprint and facts"):
        read_manifest(folder)


@pytest.mark.parametrize("content", ["[]", "null", '{"files": []}', "[" * 100_000, '"\ud800"', "é"])
def test_json_that_is_not_a_manifest_is_refused(folder, content):
    (folder / MANIFEST).write_text(content, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(DamagedFile, match="manifest.json: (not a manifest|could not be read)"):
        read_manifest(folder)


def test_a_folder_without_a_manifest_is_incomplete(tmp_path):
    assert "file is missing, expected a manifest" in why_incomplete(tmp_path / "nothing", FINGERPRINT)


def test_fault_16_a_stale_folder_names_the_field_that_differs(folder):
    expected = {**FINGERPRINT, "split": {"name": "b"}}
    assert why_incomplete(folder, expected) == f"{folder}: split.name: a, expected b"


def test_fault_17_two_processes_that_claim_one_lock_take_turns(tmp_path, start_script):
    (tmp_path / "count").write_text("0")
    both = [start_script(CLAIM_AND_COUNT, tmp_path / "lock", tmp_path / "count") for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "count").read_text() == "40"


def test_fault_17_the_lock_of_a_killed_process_is_released(tmp_path, start_script):
    first = start_script(CLAIM_AND_WAIT, tmp_path / "lock")
    first.stdout.readline()
    second = start_script(CLAIM_AND_WAIT, tmp_path / "lock")
    readable, _, _ = select.select([second.stdout], [], [], 0.5)
    assert readable == []
    first.kill()
    assert second.stdout.readline() == "claimed\n"


def test_a_digest_covers_the_entire_file(tmp_path):
    (tmp_path / "zeros").write_bytes(bytes(3_000_000))
    # From `head -c 3000000 /dev/zero | sha256sum`
    assert sha256_of(tmp_path / "zeros") == "35bce4eae54ec8e6cc2868baa8d157914d6ae2858811b4cc0c078c94460fa26f"


def test_fault_13_no_flipped_bit_changes_the_value_read_from_a_sealed_object(tmp_path, flip_byte):
    path, value = tmp_path / "costs.json", {"seconds": 12.5, "files": {"é": [1, None, True]}, "name": "x"}
    publish_sealed(path, value)
    original = path.read_bytes()
    for position in range(len(original)):
        for bit in range(8):
            flip_byte(path, position, mask=1 << bit)
            try:
                result = read_sealed(path)
            except DamagedFile:
                result = value
            assert {name: result.get(name) for name in value} == value, (position, bit)
            path.write_bytes(original)


@pytest.mark.parametrize("content", ["", "[]", "3", "{", "\udcff", "[" * 100_000])
def test_a_sealed_file_that_is_missing_or_not_an_object_is_damaged(tmp_path, content):
    (tmp_path / "x.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DamagedFile, match="x.json: (not a JSON object|could not be read)"):
        read_sealed(tmp_path / "x.json")
    with pytest.raises(DamagedFile, match="file is missing, expected a JSON object"):
        read_sealed(tmp_path / "y.json")
