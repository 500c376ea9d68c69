"""A NumPy file of images and labels is a data set: images that fit keep their pixels."""

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import folders
from pipeline.datasets.folders import check_index, find_pictures
from pipeline.datasets.lookup import dataset_fingerprint, find_dataset
from pipeline.datasets.pictures import fit_picture
from pipeline.datasets.store import ImageStore, prepare
from pipeline.errors import BadInput

SPLITS = np.array(["train", "Training", "val", "test"])


@pytest.fixture(autouse=True)
def clear_scan_cache():
    folders._scan.cache_clear()
    yield
    folders._scan.cache_clear()


def arrays(count: int = 24, shape=(32, 32, 3), **more) -> dict[str, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)
    rows = np.arange(count)
    return {"images": images, "labels": rows % 2, "split": SPLITS[rows // 2 % 4], **more}


def prepared(path, image_size=None) -> ImageStore:
    folders._scan.cache_clear()
    fingerprint = dataset_fingerprint(f"npz:{path}", subset=0, split_seed=0, image_size=image_size)
    prepare(fingerprint, str(path), str(path.parent / "set"))
    return ImageStore(path.parent / "set")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_labels_splits_and_names_come_back_in_order(tmp_path, save):
    labels = np.array(["NA", "01"] * 12)
    content = arrays(labels=labels, names=np.array([f"{number}.png" for number in range(24)][::-1]))
    save(tmp_path / "p.npz", **content)
    store = prepared(tmp_path / "p.npz")
    np.testing.assert_array_equal(store.images, content["images"])
    assert store.names == content["names"].tolist() and store.image_size == 32
    assert [store.class_names[label] for label in store.labels] == labels.tolist()
    assert store.split.tolist() == [[0, 0, 1, 2][number // 2 % 4] for number in range(24)]
    assert (store.row.name, store.row.title) == ("npz:p.npz", "p.npz")


def test_gray_images_become_rgb_and_have_the_names_of_their_rows(tmp_path):
    content = arrays(shape=(32, 32))
    np.savez(tmp_path / "p.npz", **content)
    store = prepared(tmp_path / "p.npz")
    np.testing.assert_array_equal(store.images, np.repeat(content["images"][..., None], 3, axis=3))
    assert store.class_names == ["0", "1"] and store.names[3] == "images[3]"


@pytest.mark.parametrize(("shape", "own"), [((40, 60, 3), 40), ((28, 28), 32), ((20, 600, 3), 32)])
def test_images_are_fitted_as_pictures_are_by_default_to_their_smaller_side(tmp_path, shape, own):
    content = arrays(shape=shape)
    np.savez(tmp_path / "p.npz", **content)
    assert find_dataset(f"npz:{tmp_path / 'p.npz'}").image_size == own
    store = prepared(tmp_path / "p.npz", image_size=36)
    for image, stored in zip(content["images"], store.images, strict=True):
        np.testing.assert_array_equal(fit_picture(Image.fromarray(image).convert("RGB"), 36), stored)


def test_groups_weights_and_copies_behave_as_in_a_table(tmp_path):
    content = arrays(count=120, group=np.arange(120) // 6, weight=np.arange(120) % 4 / 2)
    del content["split"]
    content["images"][7] = content["images"][1]
    np.savez(tmp_path / "p.npz", **content)
    store = prepared(tmp_path / "p.npz")
    splits = store.split.reshape(20, 6)
    assert (splits == splits[:, :1]).all() and set(store.split) == {0, 1, 2}
    assert store.weights.tolist() == (np.arange(120) % 4 / 2).tolist()
    assert len(store) == 120 and (store.images[7] == store.images[1]).all()


def test_the_file_is_hashed_once_and_its_digest_is_kept_and_verified(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.datasets.folders.RECENT_NS", 0)
    path, hashed = tmp_path / "p.npz", []
    np.savez(path, **arrays())

    def sha256_of(file):
        hashed.append(file)
        return "0" * 64

    monkeypatch.setattr("pipeline.datasets.folders.sha256_of", sha256_of)
    for _ in range(2):
        folders._scan.cache_clear()
        find_dataset(f"npz:{path}", tmp_path / "index")
    assert hashed == [path]
    monkeypatch.undo()
    folder, different = check_index(next((tmp_path / "index").iterdir()))
    assert folder == str(tmp_path) and list(different.values()) == [["p.npz"]]


NEW_VALUES = {"labels": 1, "split": "val", "group": 99, "weight": 9, "names": 99, "images": 0}


@pytest.mark.parametrize("name", NEW_VALUES)
def test_a_changed_value_changes_the_key(tmp_path, name):
    content = arrays(group=np.arange(24), weight=np.arange(24), names=np.arange(24))
    keys = []
    for _ in range(2):
        folders._scan.cache_clear()
        np.savez(tmp_path / "p.npz", **content)
        keys.append(find_dataset(f"npz:{tmp_path / 'p.npz'}").source)
        content[name].flat[0] = NEW_VALUES[name]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "expected arrays images and labels, found no labels"),
        ({"images": None}, "expected arrays images and labels, found no images"),
        ({"images": np.zeros((24, 32, 32, 3))}, r"images as uint8 .* found float64 \(24, 32, 32, 3\)"),
        ({"images": np.zeros((24, 3, 32, 32), np.uint8)}, r"found uint8 \(24, 3, 32, 32\)"),
        ({"images": np.zeros((24, 32, 32, 3), np.uint8, order="F")}, "in Fortran order"),
        ({"images": np.zeros((24, 1024), np.uint8)}, r"found uint8 \(24, 1024\)"),
        ({"images": np.zeros((0, 32, 32), np.uint8)}, r"found uint8 \(0, 32, 32\)"),
        ({"labels": np.arange(23)}, r"labels as .* \(24,\), one for each image, found int64 \(23,\)"),
        ({"labels": np.eye(24)}, r"found float64 \(24, 24\)"),
        ({"labels": np.array(["a", None] * 12)}, "without pickled objects"),
        ({"split": np.array(["holdout"] * 24)}, "row 1: expected the split train, val or test"),
        ({"weight": np.full(24, -1.0)}, "row 1: expected a weight of 0 or more, received '-1.0'"),
        ({"weight": np.array(["1"] * 24)}, "weight as numbers"),
        ({"names": np.arange(2)}, r"names as .* found int64 \(2,\)"),
        ({"labels": np.zeros(24, int)}, r"expected two classes or more; found 1 with pictures \(0\)"),
    ],
)
def test_wrong_arrays_are_an_error_in_one_line(tmp_path, changes, message):
    content = {name: values for name, values in (arrays() | changes).items() if values is not None}
    np.savez(tmp_path / "p.npz", **content)
    with pytest.raises(BadInput, match=message) as raised:
        find_dataset(f"npz:{tmp_path / 'p.npz'}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 and no more"])
def test_a_file_of_another_kind_is_an_error_in_one_line(tmp_path, content):
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(BadInput, match=r"p.npz: expected a NumPy file \(.npz\) without pickled objects"):
        find_dataset(f"npz:{tmp_path / 'p.npz'}")
    np.save(tmp_path / "q.npy", np.arange(3))
    (tmp_path / "q.npy").rename(tmp_path / "q.npz")
    with pytest.raises(BadInput, match="expected a NumPy file"):
        find_dataset(f"npz:{tmp_path / 'q.npz'}")


def test_damaged_pixels_are_found_when_they_are_read(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    content[30_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"p.npz: expected a NumPy file .*Bad CRC-32 for file 'images.npy'"):
        prepared(path)


def test_arrays_are_no_pictures_to_predict(tmp_path):
    np.savez(tmp_path / "p.npz", **arrays())
    with pytest.raises(BadInput, match=r"embed arrays with --dataset npz:.*headstart.load_model"):
        find_pictures([f"npz:{tmp_path / 'p.npz'}"])


@pytest.mark.parametrize(("rare", "reported"), [(9, True), (10, False)])
def test_a_class_with_less_than_a_tenth_of_another_is_reported_once_with_the_setting(
    tmp_path, caplog, rare, reported
):
    counts = {"cat": 100, "dog": rare, "cow": 60}
    rows = [(name, "train") for name, count in counts.items() for _ in range(count)]
    rows += [(name, split) for name in counts for split in ("val", "test") for _ in range(20)]
    labels, split = (np.array(column) for column in zip(*rows, strict=True))
    np.savez(tmp_path / "p.npz", **arrays(len(rows), labels=labels, split=split))
    store = prepared(tmp_path / "p.npz")
    records = {id(record): record.getMessage() for record in caplog.records}  # Luigi's logger repeats them
    lines = [message for message in records.values() if "--class-weights" in message]
    expected = "9 training pictures of dog and 100 of cat"
    advice = "--class-weights balanced gives all classes the same weight in the loss"
    assert lines == ([f"{expected}: {advice}"] if reported else [])
    assert store.row.note == (f"{expected} (see --class-weights)" if reported else "")
