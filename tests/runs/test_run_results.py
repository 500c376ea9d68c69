"""A run folder reads back as it was written; a damaged file is refused by name."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from pipeline.errors import BadInput, DamagedFile
from pipeline.runs.result import HISTORY_COLUMNS, label, read_run, write_predictions


def small_arrays() -> dict[str, np.ndarray]:
    return {
        "index": np.array([7, 3, 9]),
        "names": np.array(["a.png", "é/b.png", ""]),
        "labels": np.array([0, 1, 1]),
        "split": np.array([1, 2, 2]),
        "probabilities": np.array([[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]], np.float32),
    }


def rewrite(folder, name, replace):
    """Replace one dataset of predictions.h5 with what replace(file, old values) writes."""
    with h5py.File(folder / "predictions.h5", "r+") as file:
        old = file[name][:]
        del file[name]
        replace(file, old)


def test_a_run_reads_back_as_it_was_written(tmp_path, run_folder, refinish):
    recipe = json.loads((run_folder / "recipe.json").read_text())
    recipe |= {"n_val": 1, "n_test": 2, "class_names": ["cat", "dog"]}
    (run_folder / "recipe.json").write_text(json.dumps(recipe))
    write_predictions(run_folder / "predictions.h5", **small_arrays())
    run = read_run(refinish(run_folder))
    test = run.split("test")
    assert test.index.tolist() == [3, 9]
    assert test.names.tolist() == ["é/b.png", ""]
    assert test.labels.tolist() == [1, 1]
    assert test.labels.dtype == np.int64
    assert test.probabilities.tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert test.probabilities.dtype == np.float32
    assert test.class_names == ("cat", "dog")
    assert run.split("val").names.tolist() == ["a.png"]
    assert run.recipe == recipe
    assert run.history["epoch"].tolist() == list(range(1, 13))
    assert run.costs["total_seconds"] == 30.0


def test_the_same_predictions_give_the_same_bytes(tmp_path):
    for name in ("one.h5", "two.h5"):
        write_predictions(tmp_path / name, **small_arrays())
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_every_dataset_has_a_checksum(tmp_path):
    write_predictions(tmp_path / "predictions.h5", **small_arrays())
    with h5py.File(tmp_path / "predictions.h5") as file:
        assert all(dataset.fletcher32 for dataset in file.values())


@pytest.mark.parametrize("name", ["predictions.h5", "recipe.json", "history.csv", "costs.json"])
def test_one_flipped_byte_is_refused_and_the_file_is_named(run_folder, name):
    path = run_folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=f"{name}: expected sha256"):
        read_run(run_folder)


def test_a_folder_without_a_manifest_is_refused(run_folder):
    (run_folder / "manifest.json").unlink()
    with pytest.raises(DamagedFile, match="expected a manifest"):
        read_run(run_folder)


def test_a_link_into_another_file_is_refused(run_folder, refinish):
    def link(file, old):
        file["labels"] = h5py.ExternalLink("elsewhere.h5", "/labels")

    rewrite(run_folder, "labels", link)
    with pytest.raises(DamagedFile, match="labels is a link"):
        read_run(refinish(run_folder))


def test_a_soft_link_is_refused(run_folder, refinish):
    def link(file, old):
        file["labels"] = h5py.SoftLink("/index")

    rewrite(run_folder, "labels", link)
    with pytest.raises(DamagedFile, match="labels is a link"):
        read_run(refinish(run_folder))


def test_a_virtual_dataset_is_refused(run_folder, refinish):
    def virtual(file, old):
        layout = h5py.VirtualLayout(shape=old.shape, dtype=old.dtype)
        layout[:] = h5py.VirtualSource("elsewhere.h5", "labels", shape=old.shape)
        file.create_virtual_dataset("labels", layout)

    rewrite(run_folder, "labels", virtual)
    with pytest.raises(DamagedFile, match="labels stores its data in another file"):
        read_run(refinish(run_folder))


def test_data_in_an_external_file_is_refused(run_folder, refinish):
    def external(file, old):
        external_files = [(str(run_folder / "elsewhere.bin"), 0, old.nbytes)]
        file.create_dataset("labels", shape=old.shape, dtype=old.dtype, external=external_files)

    rewrite(run_folder, "labels", external)
    with pytest.raises(DamagedFile, match="stores its data in another file"):
        read_run(refinish(run_folder))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("probabilities", lambda old: np.full_like(old, np.nan), "expected finite probabilities"),
        ("probabilities", lambda old: old * 1.01, "sum to 1 within 0.001"),
        ("probabilities", lambda old: old * [-1] + 0.2, "at least 0"),
        ("probabilities", lambda old: old[:, :5], "expected probabilities of shape"),
        ("labels", lambda old: old + 1, r"labels in 0\.\.9, found 1\.\.10"),
        ("labels", lambda old: old[:-1], "expected labels of shape"),
        ("labels", lambda old: old.astype(float), "expected a dataset labels of kind iu, found float64"),
        ("split", lambda old: old + 1, "split codes"),
        ("split", lambda old: np.full_like(old, 2), "expected 100 rows of val, found 0"),
    ],
)
def test_invalid_predictions_are_refused(run_folder, refinish, name, change, message):
    rewrite(run_folder, name, lambda file, old: file.create_dataset(name, data=change(old)))
    with pytest.raises(DamagedFile, match=message):
        read_run(refinish(run_folder))


def test_a_predictions_file_that_is_not_hdf5_is_refused(run_folder, refinish):
    (run_folder / "predictions.h5").write_text("index,labels\n")
    with pytest.raises(DamagedFile, match="predictions.h5: expected an HDF5 file"):
        read_run(refinish(run_folder))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("recipe.json", "[]", "expected a JSON object"),
        ("recipe.json", "{", "expected JSON"),
        ("recipe.json", "{}", "expected scheme to be text, found None"),
        ("costs.json", '{"train_seconds": NaN}', "expected train_seconds to be a number of at least 0"),
        ("history.csv", "", "expected a CSV table"),
        ("history.csv", "stage,epoch\n", "expected columns stage, epoch"),
        ("history.csv", ",".join(HISTORY_COLUMNS) + "\n,1,1,1,1,1,1,1\n", "expected a stage in every row"),
        (
            "history.csv",
            ",".join(HISTORY_COLUMNS) + "\ntop,1,low,1,1,1,1,1\n",
            "expected train_loss to be numbers",
        ),
    ],
)
def test_a_file_of_another_format_is_refused(run_folder, refinish, name, content, message):
    (run_folder / name).write_text(content)
    with pytest.raises(DamagedFile, match=f"{name}: {message}"):
        read_run(refinish(run_folder))


def test_duplicate_class_names_are_refused(run_folder, refinish):
    recipe = json.loads((run_folder / "recipe.json").read_text())
    (run_folder / "recipe.json").write_text(json.dumps(recipe | {"class_names": ["cat"] * 10}))
    with pytest.raises(DamagedFile, match="'cat'.* more than once"):
        read_run(refinish(run_folder))


def test_a_scheme_fitted_in_one_step_has_an_empty_history(make_run):
    assert make_run(stages={}).history.empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 1])}, "arrays of one length"),
        ({"labels": np.array([0, 1, 2])}, r"labels in 0\.\.1"),
        ({"probabilities": np.array([0.5, 0.5, 1.0])}, r"shape \(N, C\)"),
        ({"probabilities": np.full((3, 2), np.inf)}, "finite"),
        ({"split": np.array([0, 1, 2])}, "split codes"),
    ],
)
def test_invalid_predictions_are_not_written(tmp_path, change, message):
    with pytest.raises(BadInput, match=message):
        write_predictions(tmp_path / "predictions.h5", **{**small_arrays(), **change})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_split_is_refused_with_the_valid_names(make_run):
    with pytest.raises(BadInput, match="unknown split 'train': expected one of test, val"):
        make_run().split("train")


def test_a_label_includes_the_weights_if_there_are_any(make_run):
    assert label(make_run("a")) == "head:linear · imagenet · 32 px"
    assert label(make_run("b", scheme="from-scratch:small", weights="none")) == "from-scratch:small · 32 px"
