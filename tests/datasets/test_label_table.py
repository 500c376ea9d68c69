"""A CSV or Parquet file of paths and labels is a data set: labels stay texts, splits and groups are kept."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import folders
from pipeline.datasets.folders import find_pictures
from pipeline.datasets.label_table import read_table, table_files
from pipeline.datasets.lookup import dataset_fingerprint
from pipeline.datasets.store import UNREADABLE, ImageStore, prepare
from pipeline.datasets.table import SPLIT_NAMES
from pipeline.errors import BadInput


@pytest.fixture(autouse=True)
def clear_scan_cache():
    folders._scan.cache_clear()
    yield
    folders._scan.cache_clear()


def write(path: Path, rows: list[dict[str, str]], **options) -> Path:
    """Write rows as a CSV file, and a noise picture at each relative path that does not exist."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], **options)
        writer.writeheader()
        writer.writerows(rows)
    for number, row in enumerate(rows):
        picture = path.parent / row["path"]
        if "absent" not in row["path"] and not picture.exists():
            picture.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(picture)
    return path


def rows_of(count: int = 40, labels=("NA", "01"), **more) -> list[dict[str, str]]:
    return [
        {"path": f"p/{number:03}.png", "label": labels[number % len(labels)]}
        | {name: value(number) for name, value in more.items()}
        for number in range(count)
    ]


def fingerprint_of(table: Path, kind="csv") -> dict:
    folders._scan.cache_clear()
    return dataset_fingerprint(f"{kind}:{table}", subset=0, split_seed=0, image_size=32)


def prepared(table: Path, kind="csv") -> ImageStore:
    target = table.parent / "set"
    prepare(fingerprint_of(table, kind), str(table), str(target))
    return ImageStore(target)


def test_labels_stay_texts_and_paths_are_relative_to_the_table(tmp_path):
    store = prepared(write(tmp_path / "labels.csv", rows_of(labels=("NA", "01", "True", "1.0"))))
    assert store.class_names == ["01", "1.0", "NA", "True"] and len(store) == 40
    assert store.names[:2] == ["p/000.png", "p/001.png"]
    assert [store.class_names[label] for label in store.labels[:4]] == ["NA", "01", "True", "1.0"]
    assert (store.row.name, store.row.title) == ("csv:labels.csv", "labels.csv")


def test_parquet_gives_what_csv_gives(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    rows = rows_of(labels=("NA", "01"))
    write(tmp_path / "labels.csv", rows)
    columns = {name: [row[name] for row in rows] for name in ("path", "label")}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "labels.parquet")
    assert read_table(tmp_path / "labels.parquet") == rows
    ours, other = prepared(tmp_path / "labels.csv"), fingerprint_of(tmp_path / "labels.parquet", "parquet")
    assert ours.fingerprint["source"] == other["source"]


def test_given_splits_are_exact(tmp_path):
    order = ("train", "Training", "val", "test")
    store = prepared(write(tmp_path / "t.csv", rows_of(split=lambda number: order[number // 2 % 4])))
    expected = [("train", "train", "val", "test")[number // 2 % 4] for number in range(40)]
    assert [SPLIT_NAMES[code] for code in store.split] == expected


def test_a_group_stays_in_one_split(tmp_path):
    store = prepared(write(tmp_path / "t.csv", rows_of(120, group=lambda number: f"patient {number // 6}")))
    splits = store.split.reshape(20, 6)
    assert (splits == splits[:, :1]).all() and set(store.split) == {0, 1, 2}


def test_a_group_follows_the_split_of_its_rows_and_two_splits_are_an_error(tmp_path):
    pinned = rows_of(12, split=lambda number: "test" if number == 3 else "", group=lambda number: "g")
    assert {file.split for file in table_files(write(tmp_path / "t.csv", pinned))} == {"test"}
    pinned[5]["split"] = "train"
    with pytest.raises(BadInput, match=r"t.csv: row 6: expected group 'g' in one split, found two"):
        table_files(write(tmp_path / "t.csv", pinned))


def test_weights_are_stored_with_the_pictures_and_empty_ones_are_1(tmp_path):
    texts = ("", "2", "0.25", "0")
    store = prepared(write(tmp_path / "t.csv", rows_of(weight=lambda number: texts[number // 2 % 4])))
    assert store.weights.dtype == np.float32
    assert store.weights.tolist() == [(1, 2, 0.25, 0)[number // 2 % 4] for number in range(40)]


def test_a_column_of_ones_is_the_table_without_weights(tmp_path):
    plain = fingerprint_of(write(tmp_path / "t.csv", rows_of()))
    ones = write(tmp_path / "t.csv", rows_of(weight=lambda number: ("1", "1.0", "")[number % 3]))
    assert fingerprint_of(ones) == plain and prepared(ones).weights is None


def test_rows_without_a_picture_or_a_label_are_listed(tmp_path):
    rows = [*rows_of(40), {"path": "absent.png", "label": "NA"}, {"path": "p/000.png", "label": ""}]
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "007.png").write_bytes(b"not a picture")
    store = prepared(write(tmp_path / "t.csv", rows))
    listed = list(csv.DictReader((tmp_path / "set" / UNREADABLE).open()))
    assert len(store) == 39
    assert [row["file"] for row in listed] == ["absent.png", "p/007.png", "p/000.png"]
    assert [row["why"] for row in listed[::2]] == ["No such file or directory", "no label"]


@pytest.mark.parametrize("column", ["label", "split", "group", "weight"])
def test_a_changed_value_changes_the_key(tmp_path, column):
    rows = rows_of(
        split=lambda number: ("train", "val", "test")[number % 3],
        group=lambda number: str(number),
        weight=lambda number: "2",
    )
    before = fingerprint_of(write(tmp_path / "t.csv", rows))
    rows[0][column] = {"label": "01", "split": "val", "group": "other", "weight": "1.5"}[column]
    assert fingerprint_of(write(tmp_path / "t.csv", rows))["source"] != before["source"]
    rows[0][column] = {"label": "NA", "split": "train", "group": "0", "weight": "2.0"}[column]
    assert fingerprint_of(write(tmp_path / "t.csv", rows[::-1])) == before, "the order of rows is no content"


def test_rows_in_another_order_or_repeated_give_the_same_data_set(tmp_path):
    rows = rows_of(12, split=lambda number: ("train", "val", "test")[number // 2 % 3])
    stores = []
    for name, table in (("one", rows), ("other", [*rows[::-1], rows[0]])):
        (tmp_path / name).mkdir()
        for number in range(12):
            picture = tmp_path / name / f"p/{number:03}.png"
            picture.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((32, 32, 3), number, np.uint8)).save(picture)
        stores.append(prepared(write(tmp_path / name / "t.csv", table)))
    assert stores[0].fingerprint == stores[1].fingerprint
    assert stores[0].names == stores[1].names == [row["path"] for row in rows]
    np.testing.assert_array_equal(stores[0].images, stores[1].images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path;label\na.png;x\n", r"row 1: expected a path in the column path"),
        ("path\na.png\n", "expected a column label, found path"),
        ("path,label\na.png,x,y\n", "line 2 has more values than the header"),
        ("path,label,split\na.png,x,holdout\n", "expected the split train, val or test, received 'holdout'"),
        ("path,label\na.png,x\nb.png,x\n", r"expected two classes or more; found 1 with pictures \(x\)"),
        (
            "path,label\na.png,Cat\nb.png,cat\n",
            "classes that look different, found 'Cat' and 'cat'",
        ),
        ("path,label\n,x\n", r"row 1: expected a path"),
        ("path,label,weight\na.png,x,-1\n", r"row 1: expected a weight of 0 or more, received '-1'"),
        ("path,label,weight\na.png,x,nan\n", r"expected a weight of 0 or more, received 'nan'"),
        ("path,label,weight\na.png,x,heavy\n", r"expected a weight of 0 or more, received 'heavy'"),
        ("path,label,weight\na.png,x,1\nb.png,y,0\n", r"expected pictures of every class in train, .*'y'"),
        (b"path,label\n\xff.png,x\n", "expected a CSV file in UTF-8 with a header"),
        ("", "expected a column label, found no rows"),
    ],
)
def test_a_wrong_table_is_a_clear_error(tmp_path, text, message):
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=message):
        fingerprint_of(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "message"), [("absent.csv", "but it does not exist"), ("folder", "but it is a folder")]
)
def test_a_path_that_is_no_table_is_a_clear_error(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        BadInput, match=f"expected a CSV or Parquet file with the columns path and .*{message}"
    ):
        fingerprint_of(tmp_path / name)


def test_a_table_without_labels_names_pictures_to_predict_or_embed(tmp_path):
    write(tmp_path / "t.csv", [{"path": "p/1.png"}, {"path": "p/2.png"}])
    assert find_pictures([f"csv:{tmp_path / 't.csv'}"]) == [str(tmp_path / f"p/{n}.png") for n in (1, 2)]
