"""A folder of pictures runs through the graph with the same commands as any data set."""

from __future__ import annotations

import json
import shutil

import luigi
import numpy as np
import pytest
from PIL import Image
from small_graphs import LITTLE, build
from trees import only

from pipeline.datasets.folders import _scan
from pipeline.datasets.pictures import decode_picture
from pipeline.errors import DamagedFile
from pipeline.recipes.presets import PRESETS
from pipeline.storage.publishing import publish_sealed, read_sealed
from tasks import PrepareDataset


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder of two classes, bright and dark, of pictures of many sizes."""
    monkeypatch.setitem(PRESETS, LITTLE.name, LITTLE)
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    for number in range(80):
        folder = tmp_path / "My pictures" / ("bright" if number % 2 else "dark")
        folder.mkdir(parents=True, exist_ok=True)
        size = draws.integers(20, 90, 2)
        pixels = draws.integers(0, 100, (*size, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    _scan.cache_clear()
    yield tmp_path / "My pictures"
    _scan.cache_clear()


@pytest.mark.slow
def test_a_folder_of_pictures_is_compared_classified_and_shown_on_the_page(pictures, data_folder, headstart):
    (pictures / "dark" / "broken.png").write_text("no picture")
    command = ["run", "--preset", LITTLE.name, "--dataset", "folder:My pictures"]
    code, output, _ = headstart(*command)
    assert code == 0 and "My pictures" in output
    run = only(data_folder, "runs/*/manifest.json").parent
    recipe = json.loads((run / "recipe.json").read_text())
    assert run.name.startswith("head-linear-folder-My_pictures-random")
    assert recipe["class_names"] == ["bright", "dark"] and recipe["dataset"] == "folder:My pictures"
    assert recipe["dataset_note"] == "1 file left out"
    assert recipe["n_train"] + recipe["n_val"] + recipe["n_test"] == 80
    page = only(data_folder, f"reports/{LITTLE.name}-folder-My_pictures-*/index.html").read_text()
    assert "1 file left out" in page and "folder:path/to/My pictures" in page
    code, output, _ = headstart("predict", run.name, str(pictures / "bright" / "1.png"))
    assert code == 0 and output.splitlines()[1].split(",")[1] == "bright"
    before = {path: path.stat().st_mtime_ns for path in data_folder.rglob("manifest.json")}
    _scan.cache_clear()
    assert headstart(*command)[0] == 0
    assert before == {path: path.stat().st_mtime_ns for path in data_folder.rglob("manifest.json")}
    code, output, _ = headstart("verify", "--sample", "4")
    assert code == 0 and "no damage, 0 unlisted" in output


def test_a_wrong_entry_of_the_index_is_dropped_so_that_the_next_command_succeeds(
    pictures, data_folder, monkeypatch, headstart
):
    monkeypatch.setattr("pipeline.datasets.folders.RECENT_NS", 0)
    task = PrepareDataset(dataset=f"folder:{pictures}")
    index = only(data_folder, ".folders/*.json")
    content = read_sealed(index)
    entry = next(iter(content["files"].values()))
    entry[-1] = "0" * 64
    publish_sealed(index, content)
    for expected in (False, True):
        _scan.cache_clear()
        luigi.task_register.Register.clear_instance_cache()
        assert build(PrepareDataset(dataset=f"folder:{pictures}")) is expected
    assert task.complete()


def test_what_a_library_prints_about_a_damaged_picture_is_not_shown(pictures, data_folder, capfd):
    path = pictures / "dark" / "broken.tif"
    Image.open(pictures / "dark" / "0.png").save(path, compression="tiff_adobe_deflate")
    content = bytearray(path.read_bytes())
    content[20:40] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(DamagedFile):
        decode_picture(path)
    assert "ZIPDecode" in capfd.readouterr().err
    task = PrepareDataset(dataset=f"folder:{pictures}")
    assert build(task)
    assert "ZIPDecode" not in "".join(capfd.readouterr())
    assert "dark/broken.tif,not a readable picture" in (task.folder / "unreadable.csv").read_text()


def test_captions_of_the_graph_count_pictures_in_several_classes(pictures, data_folder):
    shutil.copy(pictures / "dark" / "2.png", pictures / "bright" / "copy.png")
    task = PrepareDataset(dataset=f"folder:{pictures}")
    assert build(task)
    assert task.description.startswith("My pictures: 1 picture in several classes (")
    assert (task.folder / "duplicates.csv").read_text().count("\n") == 3


def test_verify_names_changed_missing_unreadable_and_damaged_sources_and_forgets_wrong_digests(
    pictures, data_folder, monkeypatch, headstart
):
    monkeypatch.setattr("pipeline.datasets.folders.RECENT_NS", 0)

    def key() -> str:
        _scan.cache_clear()
        luigi.task_register.Register.clear_instance_cache()
        return PrepareDataset(dataset=f"folder:{pictures}").fingerprint["source"]

    before = key()
    assert headstart("verify")[:2] == (0, "0 files in 0 finished folders, 0 B: no damage, 0 unlisted\n")
    index = only(data_folder, ".folders/*.json")
    (pictures / "dark" / "0.png").write_bytes(b"changed")
    (pictures / "dark" / "2.png").unlink()
    (pictures / "dark" / "4.png").touch()  # the same bytes
    code, output, _ = headstart("verify")
    assert code == 0 and index.exists()
    assert "1 picture changed, the next command prepares the folder as it is now: dark/0.png" in output
    assert "1 picture missing, the next command prepares the folder without them: dark/2.png" in output
    (pictures / "dark" / "6.png").unlink()
    (pictures / "dark" / "6.png").mkdir()
    code, output, _ = headstart("verify")
    assert code == 1 and "1 picture unreadable, repair or remove them: dark/6.png" in output
    (pictures / "dark" / "6.png").rmdir()
    after = key()
    assert after != before
    assert headstart("verify")[:2] == (0, "0 files in 0 finished folders, 0 B: no damage, 0 unlisted\n")
    content = read_sealed(index)
    content["files"]["bright/1.png"][-1] = "0" * 64
    publish_sealed(index, content)
    assert key() not in (before, after)
    code, output, _ = headstart("verify")
    assert code == 1 and not index.exists()
    assert f"source  {pictures}  1 picture damaged (other bytes, the same size and times)" in output
    assert key() == after


@pytest.mark.slow
def test_unreadable_pictures_fail_the_run_if_they_are_refused(pictures, headstart, monkeypatch):
    (pictures / "dark" / "broken.png").write_text("no picture")
    monkeypatch.setenv("HEADSTART_UNREADABLE", "refuse")
    code, _, errors = headstart("run", "--preset", LITTLE.name, "--dataset", "folder:My pictures")
    assert code != 0 and "some tasks failed" in errors
    monkeypatch.setenv("HEADSTART_UNREADABLE", "maybe")
    code, _, errors = headstart("run", "--preset", LITTLE.name, "--dataset", "folder:My pictures")
    assert code != 0


def test_an_error_about_a_missing_folder_is_one_line(pictures, headstart):
    code, _, errors = headstart("run", "--dataset", "folder:nowhere")
    assert code == 2
    assert errors.count("\n") == 1
    assert "expected a folder with one sub-folder of pictures for each class" in errors
