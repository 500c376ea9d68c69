"""`headstart why` explains tasks and entries: what differs, first and in words, and who wants what."""

from __future__ import annotations

import json
import shutil

import pytest
from trees import only

from pipeline.storage.publishing import publish_manifest, read_manifest

LITTLE = ("--preset", "little", "--precision", "float32")


def test_a_run_on_other_data_is_told_from_the_nearest_by_its_first_difference(little, headstart):
    code, output, _ = headstart("why", "TrainHead", *LITTLE, "--subset", "200")
    assert code == 0
    assert "missing: runs/head-linear-digits-200-random-seed0-" in output
    assert f"nearest: runs/{only(little, 'runs/*').name}" in output
    assert "differs in 2 fields, first dataset.subset: 100, wanted 200" in output


def test_other_weights_are_named_before_their_digest(little, headstart):
    _, output, _ = headstart("why", "DownloadWeights", *LITTLE, "--weights", "imagenet")
    assert "differs in 2 fields, first name: random, wanted imagenet" in output
    _, output, _ = headstart("why", "ExtractFeatures", *LITTLE, "--weights", "imagenet")
    assert "differs in 2 fields, first weights.name: random, wanted imagenet" in output


def test_the_nearest_is_the_one_with_the_fewest_differences(little, headstart):
    """Maps of two layers of 200 images are there, too; they differ in more from what is wanted."""
    _, output, _ = headstart("why", "ExtractFeatures", *LITTLE, "--weights", "hed")
    near = next(line.split("/")[-1] for line in output.splitlines() if "nearest" in line)
    fingerprint = json.loads(only(little, f"features/*/{near}/manifest.json").read_text())["fingerprint"]
    assert (fingerprint["pooling"], fingerprint["layers"]) == ("average", ["block1_pool"])


def test_a_run_of_another_scheme_is_not_near(little, headstart):
    _, output, _ = headstart("why", "FineTune", "--dataset", "digits", "--weights", "random")
    assert "nothing like it is there: no finished run to compare with" in output


def test_all_tasks_of_a_family_are_explained(little, headstart):
    _, output, _ = headstart("why", "TrainHead", "--weights", "random")
    assert output.count("TrainHead(") == 2


def test_a_task_that_is_done_is_said_to_be_done(little, headstart):
    _, output, _ = headstart("why", "TrainHead", *LITTLE)
    assert f"done: runs/{only(little, 'runs/*').name}" in output
    assert "nearest" not in output


def test_a_damaged_result_is_stale_and_compared_with_nothing(little, headstart):
    only(little, "runs/*/model.keras").write_bytes(b"")
    _, output, _ = headstart("why", "TrainHead", *LITTLE)
    assert "stale: " in output
    assert "model.keras: expected" in output
    assert "nearest" not in output
    assert "nothing like it" not in output


def test_a_key_tells_what_the_folder_is_and_which_preset_wants_it(little, headstart):
    folder = only(little, "raw/weights/*")
    code, output, _ = headstart("why", folder.name.rpartition("-")[2])
    assert code == 0
    assert f"raw/weights/{folder.name}: weights" in output
    assert "1 file, 59.3 MB, whole by sizes" in output
    assert "identity  he_normal:0" in output
    assert "wanted by preset demo, full, quick" in output or "wanted by preset demo, quick, full" in output


def test_an_entry_that_no_preset_wants_is_compared_with_the_nearest_task(little, headstart):
    name = only(little, "datasets/digits-200-*").name
    _, output, _ = headstart("why", name, *LITTLE)
    assert "wanted by no preset" in output
    assert "nearest: PrepareDataset(dataset=digits, subset=100" in output
    assert "differs in 1 field, first subset: 200, wanted 100" in output


def test_a_run_of_an_earlier_version_is_told_by_the_setting_that_has_another_name(little, headstart):
    run = only(little, "runs/*")
    manifest = read_manifest(run)
    settings = dict(manifest.fingerprint["settings"])
    settings["rate"] = settings.pop("learning_rate")
    publish_manifest(run, {**manifest.fingerprint, "settings": settings}, manifest.files, manifest.facts)
    _, output, _ = headstart("why", run.name, *LITTLE)
    rate = settings["rate"]
    assert f"differs in 2 fields, first settings.learning_rate: nothing, wanted {rate}" in output


def test_the_beginning_of_a_name_finds_a_cache_with_its_sections(little, headstart):
    _, output, _ = headstart("why", "vgg16-random-digits")
    for path in little.glob("features/*/*"):
        assert f"{path.relative_to(little)}: section" in output
    assert output.count(": cache") == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}'])
def test_a_manifest_that_cannot_be_read_is_called_damaged(little, headstart, content):
    folder = only(little, "runs/*")
    (folder / "manifest.json").write_text(content)
    code, output, _ = headstart("why", folder.name)
    assert (code, "damaged: not a manifest of this project" in output) == (0, True)


def test_a_file_of_another_size_is_named(little, headstart):
    path = only(little, "raw/weights/*/weights.h5")
    path.unlink()
    path.write_bytes(b"")
    _, output, _ = headstart("why", "vgg16-random-")
    assert "not whole: " in output
    assert "found 0" in output


@pytest.mark.parametrize("name", ["TrainTail", "0123456789ab", "", "x"])
def test_an_unknown_name_lists_what_is_known(little, headstart, name):
    code, output, errors = headstart("why", name, *LITTLE)
    assert (code, output) == (2, "")
    assert f"unknown task or key {name!r}: expected one of CompareSchemes, DownloadWeights" in errors
    assert only(little, "runs/*").name in errors
    assert len(errors.strip().splitlines()) == 1


def test_names_of_folders_cannot_steer_the_terminal(little, headstart):
    folder = only(little, "runs/*")
    shutil.copytree(folder, folder.with_name("evil\x1b[2J-000000000000"))
    _, output, _ = headstart("why", "evil")
    assert "\x1b" not in output
    assert "\\x1b[2J" in output
