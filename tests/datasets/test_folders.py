"""A folder of pictures is a data set: stable splits, keys by content, clear reports of unreadable files."""

from __future__ import annotations

import csv
import logging
import os
import re
import shutil
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import folders
from pipeline.datasets.folders import folder_dataset, identity_of, path_name, picture_files
from pipeline.datasets.lookup import dataset_fingerprint, find_dataset, stored_dataset
from pipeline.datasets.store import DUPLICATES, UNREADABLE, ImageStore, prepare
from pipeline.datasets.table import SPLIT_NAMES, TRAIN
from pipeline.errors import BadInput

CLASSES = ("daisy", "rose", "tulip")


@pytest.fixture(autouse=True)
def clear_scan_cache():
    folders._scan.cache_clear()
    yield
    folders._scan.cache_clear()


def picture(number: int, size=(40, 32)) -> Image.Image:
    """Return a noise picture that is different for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def fill(root: Path, classes=CLASSES, each=30, first=0) -> Path:
    """Write `each` pictures per class below root."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            picture(1000 * label + first + number).save(root / name / f"{first + number:04d}.png")
    return root


@pytest.fixture
def root(tmp_path) -> Path:
    return fill(tmp_path / "flowers")


def fingerprint_of(root: Path, index: Path | None = None, subset=0, **more) -> dict:
    folders._scan.cache_clear()
    selection = {"subset": subset, "split_seed": 0, "image_size": 32}
    return dataset_fingerprint(f"folder:{root}", **selection, index=index, **more)


def prepared(root: Path, target: Path, **more) -> ImageStore:
    prepare(fingerprint_of(root), str(root), str(target), **more)
    return ImageStore(target)


def splits_by_name(store: ImageStore) -> dict[str, int]:
    return dict(zip(store.names, store.split.tolist(), strict=True))


def test_sub_folders_are_classes_and_relative_paths_are_names(root, tmp_path):
    (root / "rose" / "deep").mkdir()
    picture(9000, (70, 90)).save(root / "rose" / "deep" / "wild é.jpg")
    (root / "notes.txt").write_text("beside the classes")
    (root / ".hidden").mkdir()
    store = prepared(root, tmp_path / "set")
    assert store.class_names == list(CLASSES)
    assert len(store) == 91 and "rose/deep/wild é.jpg" in store.names
    assert store.images.shape == (91, 32, 32, 3)
    assert (store.row.title, store.row.name) == ("flowers", "folder:flowers")
    assert all(count > 0 for count in store.counts.values()) and sum(store.counts.values()) == 91
    label = store.labels[store.names.index("rose/deep/wild é.jpg")]
    assert store.class_names[label] == "rose"


def lent(log: str) -> dict[str, str]:
    """Return the split to which each picture was lent, from a log."""
    return dict(re.findall(r"(\w+/\w+\.png) to (val|test)", log))


def test_adding_pictures_moves_none_of_the_existing_ones_but_a_loan_back(root, tmp_path, caplog):
    before = splits_by_name(prepared(root, tmp_path / "before"))
    loans = lent(caplog.text)
    assert loans and set(loans.values()) == {"val"}
    fill(root, each=40, first=500)
    fill(root, classes=("aster",), each=20)  # a new class before all others: every label changes
    after = splits_by_name(prepared(root, tmp_path / "after"))
    assert len(after) == len(before) + 140
    assert {name: TRAIN if name in loans else split for name, split in before.items()} == {
        name: after[name] for name in before
    }


def test_a_class_without_val_or_test_lends_a_picture_of_its_own_to_each(tmp_path, caplog):
    root, previous = fill(tmp_path / "few", each=9), {}
    for more in (0, 1, 2, 5, 10, 20, 40):
        fill(root, each=more, first=100 * (more + 1))
        caplog.clear()
        splits = splits_by_name(prepared(root, tmp_path / f"set{more}"))
        loans = lent(caplog.text)
        for name in CLASSES:
            own = [split for picture, split in splits.items() if picture.startswith(name)]
            assert set(own) == {0, 1, 2}
        for name, split in previous.items():
            assert splits[name] == split or name in loans
        previous = {name: TRAIN if name in loans else split for name, split in splits.items()}
    assert not loans


def test_no_size_and_no_format_moves_a_picture(root, tmp_path):
    before = splits_by_name(prepared(root, tmp_path / "before"))
    for path in list(root.rglob("*.png")):
        Image.open(path).save(path.with_suffix(".webp"), lossless=True)
        path.unlink()
    folders._scan.cache_clear()
    fingerprint = dataset_fingerprint(f"folder:{root}", subset=0, split_seed=0, image_size=40)
    prepare(fingerprint, str(root), str(tmp_path / "after"))
    store = ImageStore(tmp_path / "after")
    assert store.images.shape[1:] == (40, 40, 3)
    after = {name.replace(".webp", ".png"): split for name, split in splits_by_name(store).items()}
    assert after == before


def test_few_pictures_are_reported_with_what_to_do(tmp_path, caplog):
    prepared(fill(tmp_path / "few", each=12), tmp_path / "set")
    assert re.search(r"val has \d pictures: .*sort at least 50 into a folder named val", caplog.text)
    assert "fewer than 10 pictures for training: daisy; rose; tulip; add pictures" in caplog.text
    caplog.clear()
    for part in ("train", "val", "test"):
        fill(tmp_path / "many" / part, each=20)
    prepared(tmp_path / "many", tmp_path / "many-set")
    assert "val has" not in caplog.text and "fewer than" not in caplog.text


@pytest.mark.parametrize(("size", "allowed"), [(31, False), (32, True), (512, True), (513, False)])
def test_the_image_size_of_a_folder_has_bounds(root, size, allowed):
    options = {"subset": 0, "split_seed": 0, "image_size": size}
    if allowed:
        assert dataset_fingerprint(f"folder:{root}", **options)["image_size"] == size
        return
    with pytest.raises(
        BadInput, match=f"image size of folder:.*: expected 32 to 512 pixels, received {size}"
    ):
        dataset_fingerprint(f"folder:{root}", **options)


def test_pictures_are_kept_at_224_px_by_default_and_named_data_sets_at_32_px(root):
    assert dataset_fingerprint(f"folder:{root}", subset=0, split_seed=0)["image_size"] == 224
    assert dataset_fingerprint("cifar10", subset=0, split_seed=0, image_size=32)["image_size"] == 32
    with pytest.raises(BadInput, match="image size of cifar10: expected 32 pixels, as they are, received 64"):
        dataset_fingerprint("cifar10", subset=0, split_seed=0, image_size=64)


def test_duplicates_get_the_same_split_whatever_their_names_and_formats(root, tmp_path):
    for number in range(20):
        source = root / "daisy" / f"{number:04d}.png"
        shutil.copy(source, root / "daisy" / f"copy-{number}.png")
        Image.open(source).save(root / "tulip" / f"again-{number}.bmp")
    splits = splits_by_name(prepared(root, tmp_path / "set"))
    for number in range(20):
        names = f"daisy/{number:04d}.png", f"daisy/copy-{number}.png", f"tulip/again-{number}.bmp"
        assert len({splits[name] for name in names}) == 1
    assert len(set(splits.values())) == 3


def test_split_fractions_hold_on_average(tmp_path):
    store = prepared(fill(tmp_path / "many", each=300), tmp_path / "set")
    assert store.counts["test"] / len(store) == pytest.approx(0.2, abs=0.04)
    assert store.counts["val"] / len(store) == pytest.approx(0.08, abs=0.03)


def test_another_seed_gives_another_split_by_content(root):
    contents, labels = np.random.default_rng(0).integers(0, 256, (500, 32), np.uint8), np.zeros(500, int)
    unassigned = np.full(500, folders.UNASSIGNED, np.uint8)
    from pipeline.datasets.split import split_by_content

    shares = {"val_fraction": 0.1, "test_fraction": 0.2}
    one, other = (split_by_content(contents, labels, unassigned, seed=seed, **shares)[0] for seed in (0, 1))
    assert 0.2 < (one != other).mean() < 0.7
    permutation = np.random.default_rng(1).permutation(500)
    permuted, _ = split_by_content(contents[permutation], labels, unassigned, seed=0, **shares)
    assert (permuted == one[permutation]).all()


def test_folders_named_train_val_and_test_define_the_split(tmp_path):
    root = tmp_path / "split"
    for first, part in enumerate(("train", "validation", "test")):
        fill(root / part, each=5, first=100 * first)
    store = prepared(root, tmp_path / "set")
    assert store.counts == {"train": 15, "val": 15, "test": 15}
    assert {name.partition("/")[0] for name in np.array(store.names)[store.rows("val")]} == {"validation"}


def test_val_is_drawn_from_train_if_the_folder_has_none(tmp_path):
    root = tmp_path / "split"
    fill(root / "train", each=60)
    fill(root / "test", each=5, first=700)
    store = prepared(root, tmp_path / "set")
    assert store.counts["test"] == 15 and 5 <= store.counts["val"] <= 35
    assert {name.partition("/")[0] for name in np.array(store.names)[store.rows("val")]} == {"train"}


def broken(root: Path) -> list[str]:
    (root / "rose" / "cut.png").write_bytes((root / "rose" / "0000.png").read_bytes()[:200])
    (root / "tulip" / "text.jpg").write_text("this is no picture")
    return ["rose/cut.png", "tulip/text.jpg"]


def test_unreadable_files_are_listed_and_left_out(root, tmp_path, caplog):
    names = broken(root)
    with caplog.at_level(logging.WARNING):
        store = prepared(root, tmp_path / "set")
    assert len(store) == 90 and not set(names) & set(store.names)
    assert all(name in caplog.text for name in names) and "2 files left out" in caplog.text
    listed = (tmp_path / "set" / UNREADABLE).read_text().splitlines()
    assert [line.partition(",")[0] for line in listed] == ["file", *names]
    assert store.row.note == "2 files left out"


def test_unreadable_files_are_an_error_if_refuse_unreadable_is_set(root, tmp_path):
    broken(root)
    with pytest.raises(BadInput, match=r"2 files left out: rose/cut.png .*tulip/text.jpg"):
        prepared(root, tmp_path / "set", refuse_unreadable=True)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("change", ["content", "name", "more", "fewer"])
def test_every_change_of_the_files_changes_the_fingerprint(root, change):
    before = fingerprint_of(root)
    one = root / "rose" / "0001.png"
    if change == "content":
        picture(77).save(one)
    if change == "name":
        one.rename(root / "rose" / "other.png")
    if change == "more":
        fill(root, each=1, first=900)
    if change == "fewer":
        one.unlink()
    assert fingerprint_of(root) != before


def test_fingerprint_does_not_depend_on_the_location_of_the_folder(root, tmp_path):
    copy = tmp_path / "elsewhere" / "flowers"
    shutil.copytree(root, copy)
    assert fingerprint_of(copy) == fingerprint_of(root)


def test_a_picture_replaced_by_one_of_the_same_size_and_time_is_noticed(root, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "RECENT_NS", 0)  # what has just been written counts as old
    one = root / "rose" / "0001.png"
    before, status = fingerprint_of(root, tmp_path / "index"), one.stat()
    data = bytearray(one.read_bytes())
    data[-20] ^= 1
    (root / "copy").write_bytes(data)
    os.utime(root / "copy", ns=(status.st_atime_ns, status.st_mtime_ns))
    (root / "copy").rename(one)  # as rsync -t does
    assert (one.stat().st_size, one.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert fingerprint_of(root, tmp_path / "index") != before


def test_index_avoids_hashing_unchanged_files(root, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "RECENT_NS", 0)
    for path in root.rglob("*.png"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    time.sleep(0.02)
    fingerprint = fingerprint_of(root, tmp_path / "index")
    read = []
    real = folders.sha256_of
    monkeypatch.setattr(folders, "sha256_of", lambda path: read.append(path) or real(path))
    assert fingerprint_of(root, tmp_path / "index") == fingerprint and read == []
    picture(77).save(root / "rose" / "0001.png")
    assert fingerprint_of(root, tmp_path / "index") != fingerprint and read == [root / "rose" / "0001.png"]


def test_index_does_not_store_recently_modified_files(root, tmp_path, monkeypatch):
    fingerprint_of(root, tmp_path / "index")
    one = root / "rose" / "0001.png"
    stamp, before = one.stat(), fingerprint_of(root, tmp_path / "index")
    data = bytearray(one.read_bytes())
    data[-20] ^= 1
    one.write_bytes(data)
    os.utime(one, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the same size and time, as within one tick
    assert fingerprint_of(root, tmp_path / "index") != before


@pytest.mark.parametrize(
    "content", ["", "[]", '{"folder": "/x", "files": {"rose/0001.png": [1]}}', "{" * 2000]
)
def test_damaged_index_is_rebuilt(root, tmp_path, monkeypatch, content):
    monkeypatch.setattr(folders, "RECENT_NS", 0)
    fingerprint = fingerprint_of(root, tmp_path / "index")
    (path,) = (tmp_path / "index").glob("*.json")
    valid = path.read_text()
    path.write_text(content)
    assert fingerprint_of(root, tmp_path / "index") == fingerprint and path.read_text() == valid


def test_files_that_change_between_scan_and_read_are_an_error(root, tmp_path):
    fingerprint = fingerprint_of(root)
    picture(77).save(root / "rose" / "0001.png")
    with pytest.raises(BadInput, match="files have changed since the folder was scanned"):
        prepare(fingerprint, str(root), str(tmp_path / "set"))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "but it does not exist"),
        (lambda root: root.write_text("x"), "but it is a file"),
        (lambda root: root.mkdir(), r"found 0 with pictures \(none\)"),
        (lambda root: fill(root, classes=("rose",)), r"found 1 with pictures \(rose\)"),
        (
            lambda root: (fill(root / "train", classes=("a", "b")), fill(root / "test", classes=("c",))),
            r"pictures of every class in train, missing: \['c'\]",
        ),
    ],
)
def test_unexpected_folder_layout_is_a_clear_error(tmp_path, make, message):
    make(tmp_path / "x")
    with pytest.raises(BadInput, match=message):
        folder_dataset(f"folder:{tmp_path / 'x'}", None)


def test_too_few_pictures_for_three_splits_are_a_clear_error(tmp_path):
    with pytest.raises(BadInput, match="in each of train, val and test, and of each class in train"):
        prepared(fill(tmp_path / "few", each=1), tmp_path / "set")


def test_subset_of_a_folder_is_checked_against_its_size(root):
    assert fingerprint_of(root, subset=90)["subset"] == 0
    with pytest.raises(BadInput, match="expected 0 .all images. or 90 to 90 images, received 91"):
        fingerprint_of(root, subset=91)


def test_stored_row_equals_the_row_of_the_folder(root):
    row = folder_dataset(f"folder:{root}", None)
    assert stored_dataset(fingerprint_of(root)) == row == find_dataset(f"folder:{root}")


def test_identity_depends_on_names_and_bytes_but_not_on_order():
    one = identity_of({"a": "1", "b": "2"})
    assert one == identity_of({"b": "2", "a": "1"}) != identity_of({"a": "2", "b": "1"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10", "cifar10"),
        ("folder:/a/b/My photos", "folder-My_photos"),
        ("folder:/a/../../b/é;rm -rf", "folder-__rm_-rf"),
        ("folder:x/", "folder-x"),
    ],
)
def test_path_name_replaces_unsafe_characters(name, expected):
    assert path_name(name) == expected


def test_names_of_folders_are_short_enough_for_file_systems():
    assert len(path_name(f"folder:{'y' * 240}")) < 80


def test_the_table_of_unreadable_files_holds_no_formula(tmp_path):
    root = fill(tmp_path / "flowers")
    (root / "rose").rename(root / "=rose")
    (root / "=rose" / "bad.png").write_text("no picture")
    prepared(root, tmp_path / "set")
    rows = (tmp_path / "set" / "unreadable.csv").read_text(encoding="utf-8").splitlines()
    assert rows[1].startswith("'=rose/bad.png,")


def test_names_that_are_not_utf8_are_read(tmp_path):
    root = fill(tmp_path / "flowers")
    raw = os.fsencode(root / "rose") + b"/bad-\xff.png"
    shutil.copy(root / "rose" / "0001.png", os.fsdecode(raw))
    store = prepared(root, tmp_path / "set")
    assert "rose/bad-\\xff.png" in store.names


def test_control_characters_in_names_are_escaped_and_spaces_are_kept(root, tmp_path):
    (root / "rose").rename(root / "ro\x1b[31mse\n\u3000")
    store = prepared(root, tmp_path / "set")
    assert "ro\\x1b[31mse\\n\u3000" in store.class_names
    assert not any("\n" in name or "\x1b" in name for name in store.names)


def test_broken_link_is_left_out(root, tmp_path):
    (root / "rose" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert len(prepared(root, tmp_path / "set")) == 90
    assert "rose/gone.png" in (tmp_path / "set" / UNREADABLE).read_text()


def test_fault_27_pictures_of_a_users_folder_are_read_and_other_files_are_listed_by_name(
    root, tmp_path, caplog
):
    odd = root / "tulip"
    gray = picture(1).convert("L")
    for name, one in {
        "gray.png": gray,
        "alpha.png": picture(2).convert("RGBA"),
        "print.jpg": picture(3).convert("CMYK"),
        "deep.png": Image.fromarray(np.asarray(gray).astype(np.uint16) * 257),
        "palette.gif": picture(4).convert("P"),
        "bits.bmp": picture(5).convert("1"),
        "web.webp": picture(6),
    }.items():
        one.save(odd / name)
    picture(7).save(odd / "moves.gif", save_all=True, append_images=[picture(8), picture(9)])
    shutil.copy(root / "rose" / "0000.png", odd / "copy.png")
    listed = {
        "tulip/nothing.png": b"",
        "tulip/cut.jpg": (odd / "print.jpg").read_bytes()[:300],
        "tulip/page.png": b"<html>not found</html>",
        "tulip/notes.txt": b"a caption",
        "tulip/scan.tiff": b"II*\0",
        "tulip/phone.HEIC": b"\0\0\0\x18ftypheic",
    }
    for name, data in listed.items():
        (root / name).write_bytes(data)
    (root / "violet").mkdir()
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with caplog.at_level(logging.WARNING):
        store = prepared(root, tmp_path / "set")
    assert len(store) == 90 + 9 and store.class_names == list(CLASSES)
    lines = (tmp_path / "set" / UNREADABLE).read_text().splitlines()[1:]
    assert {line.partition(",")[0] for line in lines} == {*listed, "violet/"}
    assert "7 files left out" in caplog.text and "and 2 more" in caplog.text
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    with pytest.raises(BadInput, match="7 files left out: .*HEADSTART_UNREADABLE=report"):
        prepared(root, tmp_path / "another", refuse_unreadable=True)


@pytest.mark.parametrize(
    "train, test", [("train", "test"), ("Training", "TEST_set"), ("train_set", "validation")]
)
def test_splits_are_recognized_in_every_spelling_beside_what_systems_leave_behind(tmp_path, train, test):
    root = tmp_path / "set"
    for split in (train, test):
        fill(root / split)
    for name in ("__MACOSX", ".thumbnails", "@eaDir", "#snapshot", "@Recycle", "Temporary Items"):
        fill(root / name, each=1)
    (root / "models").mkdir()
    files = picture_files(root)
    assert {file.class_name for file in files} == set(CLASSES)
    assert {file.split for file in files} == {"train", "val" if test == "validation" else "test"}
    assert not any("MACOSX" in file.name or "@eaDir" in file.name for file in files)


@pytest.mark.parametrize("more", ["models", "extra"])
def test_folders_that_could_be_splits_or_classes_are_an_error_that_names_both_and_the_option(tmp_path, more):
    root = tmp_path / "set"
    for name in ("train/rose", "train/tulip", "test/rose", "test/tulip", more):
        fill(root / name, classes=(".",), each=12)
    message = (
        f"the folders test, train could be splits, without {more}, or classes.*--layout splits or --layout"
    )
    with pytest.raises(BadInput, match=message):
        picture_files(root)
    assert {file.class_name for file in picture_files(root, "splits")} == {"rose", "tulip"}
    assert {file.class_name for file in picture_files(root, "classes")} == {"train", "test", more}
    fingerprints = [fingerprint_of(root, layout=layout) for layout in ("splits", "classes")]
    assert fingerprints[0] != fingerprints[1]
    prepare(fingerprints[1], str(root), str(tmp_path / "prepared"))
    assert ImageStore(tmp_path / "prepared").class_names == sorted(["train", "test", more])


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train_images", "test_images"),
        ("Training Set", "Test Set"),
        ("train2017", "val2017"),
        ("01_train", "02_test"),
        ("training_data", "evaluation"),
    ],
)
def test_other_names_that_contain_the_words_of_two_splits_are_an_error_and_can_be_chosen(
    tmp_path, train, test
):
    for split in (train, test):
        fill(tmp_path / "set" / split, each=2)
    with pytest.raises(BadInput, match="could be splits or classes like any other; choose with --layout"):
        picture_files(tmp_path / "set")
    assert {file.class_name for file in picture_files(tmp_path / "set", "classes")} == {train, test}
    files = picture_files(tmp_path / "set", "splits")
    assert {file.class_name for file in files} == set(CLASSES)
    assert {file.split for file in files} == {"train", "val" if test == "val2017" else "test"}


def test_a_class_whose_name_contains_the_word_of_a_split_is_a_class(tmp_path):
    fill(tmp_path / "set", classes=("test tube", "beaker"))
    assert {file.class_name for file in picture_files(tmp_path / "set")} == {"test tube", "beaker"}


def test_splits_inside_the_folders_of_classes_are_an_error_that_says_what_to_do(tmp_path):
    for name in ("bottle", "cable"):
        fill(tmp_path / "set" / name, classes=("train", "test"), each=2)
    with pytest.raises(BadInput, match="the folders test, train in bottle could be splits; put the classes"):
        picture_files(tmp_path / "set")
    files = picture_files(tmp_path / "set", "classes")
    assert {(file.class_name, file.split) for file in files} == {("bottle", ""), ("cable", "")}


def test_split_folders_with_pictures_but_no_classes_are_an_error(tmp_path):
    fill(tmp_path / "set", classes=("train", "test"))
    with pytest.raises(BadInput, match="test, train could be splits or classes like any other"):
        picture_files(tmp_path / "set")


@pytest.mark.parametrize(
    "names",
    [
        ("caf\u00e9", "cafe\u0301"),
        ("Rose", "rose"),
        ("rose", "rose "),
        ("red rose", "red\u00a0rose"),
        ("A", "\uff21"),
        ("caf\udce9", r"caf\xe9"),
        ("a\nb", r"a\nb"),
    ],
)
def test_names_of_classes_that_look_the_same_are_an_error(tmp_path, names):
    fill(tmp_path / "set", classes=names)
    with pytest.raises(BadInput, match="expected names of classes that look different"):
        picture_files(tmp_path / "set")
    for split in ("train", "test"):
        fill(tmp_path / "splits" / split, classes=names)
    with pytest.raises(BadInput, match="expected names of classes that look different"):
        picture_files(tmp_path / "splits")


def test_two_pictures_whose_names_are_shown_in_the_same_way_are_an_error(root):
    picture(1).save(root / "rose" / "caf\udce9.png")
    picture(2).save(root / "rose" / r"caf\xe9.png")
    with pytest.raises(BadInput, match=r"found two pictures shown as 'rose/caf\\\\xe9.png'"):
        picture_files(root)


@pytest.mark.parametrize("kind", ["folder", "csv", "npz"])
def test_a_data_set_without_a_path_is_an_error(kind):
    with pytest.raises(BadInput, match=f"{kind}:: expected a .*, received no path"):
        find_dataset(f"{kind}:")


def test_a_path_may_end_in_a_colon(tmp_path):
    fill(tmp_path / "photos:", each=1)
    assert find_dataset(f"folder:{tmp_path / 'photos:'}").size == len(CLASSES)


def left_out(target: Path) -> dict[str, str]:
    """Return why each file of a prepared data set was left out."""
    with (target / UNREADABLE).open(encoding="utf-8", newline="") as file:
        return {row["file"]: row["why"] for row in csv.DictReader(file)}


def test_pictures_outside_the_folders_of_classes_are_listed(tmp_path):
    parts = [fill(tmp_path / "splits" / part, each=5) for part in ("train", "val", "test")]
    for folder in (tmp_path / "splits", parts[0], fill(tmp_path / "classes")):
        picture(1).save(folder / "loose.png")
        (folder / "phone.heic").write_bytes(b"")
        (folder / "README.txt").write_text("no picture")
        (folder / ".hidden.png").write_bytes(b"")
    apart, heic = "not in the folder of a class", ".heic is not read; convert it to PNG or JPEG"
    prepared(tmp_path / "classes", tmp_path / "one")
    assert left_out(tmp_path / "one") == {"loose.png": apart, "phone.heic": heic}
    prepared(tmp_path / "splits", tmp_path / "other")
    both = {"loose.png": apart, "phone.heic": heic, "train/loose.png": apart, "train/phone.heic": heic}
    assert left_out(tmp_path / "other") == both


def test_pictures_in_a_folder_beside_the_splits_are_listed(tmp_path):
    for part in ("train", "val", "test"):
        fill(tmp_path / "set" / part, each=5)
    fill(tmp_path / "set" / "extra", each=1)
    prepare(fingerprint_of(tmp_path / "set", layout="splits"), str(tmp_path / "set"), str(tmp_path / "out"))
    names = [f"extra/{name}/0000.png" for name in CLASSES]
    assert left_out(tmp_path / "out") == dict.fromkeys(names, "not in the folder of a class")


def test_a_folder_of_formats_that_are_not_read_says_what_to_do(tmp_path):
    for name in CLASSES:
        (tmp_path / "phone" / name).mkdir(parents=True)
        (tmp_path / "phone" / name / "1.heic").write_bytes(b"")
    with pytest.raises(BadInput, match=r"found 0 .*; .heic is not read; convert it to PNG"):
        picture_files(tmp_path / "phone")


def duplicates(target: Path) -> list[tuple[str, ...]]:
    """Return the lines of the table of duplicates of a prepared data set."""
    with (target / DUPLICATES).open(encoding="utf-8", newline="") as file:
        return [tuple(line) for line in csv.reader(file)]


def test_the_same_picture_in_several_classes_is_reported_with_names_and_counts(root, tmp_path, caplog):
    Image.open(root / "rose" / "0003.png").save(root / "tulip" / "again.bmp")
    shutil.copy(root / "rose" / "0004.png", root / "rose" / "copy.png")  # of the same class
    store = prepared(root, tmp_path / "set")
    split = SPLIT_NAMES[store.split[store.names.index("rose/0003.png")]]
    digest = store.content[store.names.index("rose/0003.png")].tobytes().hex()
    expected = [(digest, "rose/0003.png", "rose", split), (digest, "tulip/again.bmp", "tulip", split)]
    assert duplicates(tmp_path / "set")[1:] == expected
    assert "1 picture in several classes: rose/0003.png = tulip/again.bmp; remove copies" in caplog.text
    assert "several splits" not in caplog.text and store.row.note == "1 picture in several classes"


def test_the_same_picture_in_several_given_splits_is_reported_and_noted_beside_every_result(tmp_path, caplog):
    root = tmp_path / "set"
    for first, part in enumerate(("train", "val", "test")):
        fill(root / part, each=5, first=100 * first)
    for number in range(7):
        picture(number).save(root / "test" / "daisy" / f"leak-{number}.png")
    picture(2).save(root / "val" / "rose" / "leak.png")
    (root / "val" / "rose" / "notes.txt").write_text("")
    store = prepared(root, tmp_path / "out")
    table = duplicates(tmp_path / "out")
    assert table[0] == ("picture", "file", "class", "split") and len(table) == 1 + 2 * 5 + 1
    digest = store.content[store.names.index("val/rose/leak.png")].tobytes().hex()
    assert [line[1:] for line in table if line[0] == digest] == [
        ("test/daisy/leak-2.png", "daisy", "test"),
        ("train/daisy/0002.png", "daisy", "train"),
        ("val/rose/leak.png", "rose", "val"),
    ]
    assert store.row.note == "1 file left out, 1 picture in several classes, 5 pictures in several splits"
    assert "5 pictures in several splits: test/daisy/leak-0.png = train/daisy/0000.png; " in caplog.text


def test_a_folder_without_such_duplicates_has_no_table_and_no_note(root, tmp_path):
    store = prepared(root, tmp_path / "set")
    assert not (tmp_path / "set" / DUPLICATES).exists() and store.row.note == ""


@pytest.mark.parametrize(("bits", "dark"), [(10, True), (12, True), (14, True), (15, False), (16, False)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_of_fewer_bits_in_files_of_16_are_reported_once_and_not_changed(
    root, tmp_path, caplog, bits, dark, suffix
):
    for number, name in enumerate(CLASSES):
        values = np.random.default_rng(number).integers(0, 2**bits, (32, 32)).astype(np.uint16)
        values[0, 0] = 2**bits - 1
        Image.fromarray(values).save(root / name / f"deep{suffix}")
    store = prepared(root, tmp_path / "set")
    assert ("16 bits per value" in caplog.text) is dark
    if dark:
        assert re.search(
            r"3 of 3 pictures with 16 bits per value have no value above 64 of 255: "
            rf"daisy/deep{suffix}; rose/deep{suffix}; tulip/deep{suffix}; if .* scale them to 16",
            caplog.text,
        )
    deep = store.images[store.names.index(f"tulip/deep{suffix}")]
    assert np.array_equal(deep[..., 0], np.round(values / 257))


def test_dark_colors_of_16_bits_are_reported_and_those_of_8_bits_are_not(root, tmp_path, caplog):
    Image.new("RGB", (32, 32), (9, 9, 9)).save(root / "rose" / "night.png")
    prepared(root, tmp_path / "one")
    assert "16 bits per value" not in caplog.text
    values = np.full((32, 32, 3), 4095, ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(rows), b"IEND": b""}
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    ]
    (root / "rose" / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    bright = np.full((32, 32), 60_000, np.uint16)
    Image.fromarray(bright).save(root / "rose" / "bright.png")
    prepared(root, tmp_path / "other")
    message = "1 of 2 pictures with 16 bits per value have no value above 64 of 255: rose/deep.png"
    assert message in caplog.text


def test_an_index_leads_to_files_of_any_name(root, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "RECENT_NS", 0)
    (root / "rose" / "0000.png").rename(root / "rose" / "a\nb.png")
    (root / "rose" / "0001.png").rename(root / "rose" / "caf\udce9.png")
    before = fingerprint_of(root, tmp_path / "index")
    assert fingerprint_of(root, tmp_path / "index") == before
    (path,) = (tmp_path / "index").glob("*.json")
    assert folders.check_index(path) == (str(root), {})
    (root / "rose" / "caf\udce9.png").unlink()
    assert folders.check_index(path) == (str(root), {folders.MISSING: ["rose/caf\udce9.png"]})
