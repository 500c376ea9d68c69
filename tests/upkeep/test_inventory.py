"""The inventory classifies folders by path and manifest, without following links."""

from __future__ import annotations

import os

import pytest

from pipeline.storage.fingerprint import differences, fields, key_of
from pipeline.storage.layout import kind_of
from pipeline.storage.publishing import is_held, publish_manifest
from pipeline.upkeep.inventory import bytes_of, damages, entries, unlisted


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("raw/cifar10-0123456789ab", "download"),
        ("raw/weights/vgg16-imagenet-0123456789ab", "weights"),
        ("datasets/digits-0123456789ab", "dataset"),
        ("features/vgg16-imagenet-digits-0123456789ab", "cache"),
        ("features/vgg16-imagenet-digits-0123456789ab/hflip+left2-0123456789ab", "section"),
        ("runs/head-linear-digits-imagenet-seed0-0123456789ab", "run"),
        ("reports/runs/head-linear-0123456789ab/metrics", "metrics"),
        ("reports/runs/head-linear-0123456789ab/findings", "findings"),
        ("sweeps/head-linear-0123456789ab", "sweep"),
        ("curves/head-logistic-0123456789ab", "curve"),
        ("reports/recommendation/vgg16-0123456789ab", "recommendation"),
        ("reports/labels/digits-0123456789ab", "labels"),
        ("reports/seeds/cifar10-0123456789ab", "seeds"),
        ("reports/blocks/cifar10-0123456789ab", "blocks"),
        ("studies/from-scratch-lesson-0123456789ab", "study"),
        ("recipes/tuned-lesson", "recipe"),
        ("reports/demo", "comparison"),
        ("reports/runs", None),
        ("reports/seeds", None),
        ("runs/notes", None),
        ("runs/.hidden-0123456789ab", None),
        ("raw/weights", None),
        ("elsewhere/digits-0123456789ab", None),
    ],
)
def test_the_kind_of_a_folder_follows_from_its_path(place, kind):
    assert kind_of(place) == kind


@pytest.fixture
def data(tmp_path):
    """A data folder with one finished data set."""
    folder = tmp_path / "data" / "datasets" / f"digits-{key_of({})}"
    folder.mkdir(parents=True)
    (folder / "dataset.h5").write_bytes(b"images")
    publish_manifest(folder, {}, ["dataset.h5"])
    return tmp_path / "data"


def test_finished_and_unfinished_folders_are_entries(data):
    (data / "runs" / "head-0123456789ab").mkdir(parents=True)
    finished = {entry.kind: entry.manifest is not None for entry in entries(data)}
    assert finished == {"dataset": True, "run": False}
    assert entries(data / "nowhere") == []


def test_a_link_to_a_folder_is_not_an_entry_and_its_target_does_not_count(data, tmp_path):
    (data / "runs").symlink_to(data / "datasets", target_is_directory=True)
    assert [entry.kind for entry in entries(data)] == ["dataset"]
    assert bytes_of(data / "runs") < 500
    assert unlisted(data, entries(data)) == [data / "runs"]


def test_a_manifest_that_is_a_link_or_a_pipe_is_damaged_and_not_opened(data):
    run, other = data / "runs" / "a-0123456789ab", data / "runs" / "b-0123456789ab"
    for folder in (run, other):
        folder.mkdir(parents=True)
    os.mkfifo(run / "manifest.json")
    (other / "manifest.json").symlink_to(next(data.glob("datasets/*/manifest.json")))
    faults = [entry.fault for entry in entries(data) if entry.kind == "run"]
    assert ["found a link or a device" in fault for fault in faults] == [True, True]


@pytest.mark.parametrize(
    ("content", "why"), [(b"imagex", "sha256"), (b"image", "expected 6 bytes"), (None, "no file")]
)
def test_a_file_that_differs_from_its_manifest_is_damaged(data, content, why):
    (entry,) = entries(data)
    path = entry.folder / "dataset.h5"
    assert damages(data, entry) == []
    path.unlink() if content is None else path.write_bytes(content)
    (damage,) = damages(data, entry)
    assert (damage.path, why in damage.why) == (path, True)


def test_the_inventory_excludes_the_quarantine(data):
    (data / "datasets").rename(data / "quarantine")
    assert entries(data) == unlisted(data, []) == []


def test_a_lock_is_held_until_its_process_ends(tmp_path, start_script):
    code = (
        "import sys, time, filelock\n"
        "with filelock.FileLock(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    path = tmp_path / "a.lock"
    holder = start_script(code, path)
    assert holder.stdout.readline() == "held\n"
    assert is_held(path)
    holder.kill()
    holder.wait()
    assert not is_held(path)


def test_a_lock_may_be_held_where_files_cannot_be_locked(tmp_path, no_locks):
    assert is_held(tmp_path / "a.lock")


def test_the_most_important_differences_come_first():
    have = {"split": {"source": "a", "name": "b"}, "runs": [{"seed": 0}], "layers": ["a", "b"]}
    want = {"split": {"source": "b", "name": "own"}, "runs": [{"seed": 1}], "layers": ["a"], "size": None}
    assert differences(have, want) == [
        "layers: a, b, expected a",
        "size: nothing, expected null",
        "split.name: b, expected own",
        "split.source: a, expected b",
        "runs.0.seed: 0, expected 1",
    ]
    assert differences(have, have) == []


def test_fields_are_the_plain_values_of_a_fingerprint():
    assert fields({"b": {"c": 1}, "a": [], "d": {}}) == [("a", []), ("d", {}), ("b.c", 1)]
