"""`headstart why` explains tasks and folders: what differs first, and what uses them."""

from __future__ import annotations

import json
import shutil

import pytest
from trees import only

from pipeline import machine
from pipeline.features.extract import finish
from pipeline.features.sections import section_at
from pipeline.storage.publishing import publish_manifest, publish_sealed, read_manifest, read_sealed

QUICK = ("--preset", "quick", "--dataset", "digits", "--subset", "0")
LITTLE = ("--preset", "little", "--precision", "float32")


def test_a_missing_run_is_compared_with_the_nearest_run(little, headstart):
    code, output, _ = headstart("why", "TrainHead", *LITTLE, "--subset", "200")
    assert code == 0
    assert "missing: runs/head-linear-digits-200-random-seed0-" in output
    assert f"nearest: runs/{only(little, 'runs/*').name}" in output
    assert "differs in 2 fields, first dataset.subset: 100, expected 200" in output


def test_other_weights_are_named(little, headstart):
    _, output, _ = headstart("why", "DownloadWeights", *LITTLE, "--weights", "imagenet")
    assert "differs in 1 field, first weights: random, expected imagenet" in output
    _, output, _ = headstart("why", "ExtractFeatures", *LITTLE, "--weights", "imagenet")
    assert "differs in 1 field, first weights: random, expected imagenet" in output


def test_the_nearest_is_the_one_with_the_fewest_differences(little, headstart):
    """Maps of two layers of 200 images are also cached, and differ in more fields."""
    _, output, _ = headstart("why", "ExtractFeatures", *LITTLE, "--weights", "imagenet")
    near = next(line.split("/")[-1] for line in output.splitlines() if "nearest" in line)
    fingerprint = json.loads(only(little, f"features/*/{near}/manifest.json").read_text())["fingerprint"]
    assert (fingerprint["pooling"], fingerprint["layers"]) == ("average", ["block1_pool"])


def test_a_run_is_not_compared_with_runs_of_another_scheme(little, headstart):
    _, output, _ = headstart("why", "FineTune", *QUICK, "--weights", "random")
    assert "  no finished run to compare with" in output


def test_all_tasks_of_a_family_are_explained(little, headstart):
    _, output, _ = headstart("why", "TrainHead", "--weights", "random")
    assert output.count("TrainHead(") == 2


def test_a_finished_task_is_reported_as_done(little, headstart):
    _, output, _ = headstart("why", "TrainHead", *LITTLE)
    assert f"done: runs/{only(little, 'runs/*').name}" in output
    assert "nearest" not in output


def test_a_damaged_result_is_stale_and_not_compared_with_others(little, headstart):
    only(little, "runs/*/model.keras").write_bytes(b"")
    _, output, _ = headstart("why", "TrainHead", *LITTLE)
    assert "stale: " in output
    assert "model.keras: expected" in output
    assert "nearest" not in output
    assert "to compare with" not in output


def test_a_folder_is_explained_by_its_key_with_the_presets_that_use_it(little, headstart):
    folder = only(little, "raw/weights/*")
    code, output, _ = headstart("why", folder.name.rpartition("-")[2])
    assert code == 0
    assert f"raw/weights/{folder.name}: weights" in output
    assert "1 file, 59.3 MB, complete" in output
    assert "weights   he_normal:0" in output
    assert "used by preset demo, full, quick" in output or "used by preset demo, quick, full" in output


def test_a_section_lists_the_versions_of_libraries_that_its_shards_were_computed_with(little, headstart):
    section, _ = section_at(only(little, "features/*/*/shard-00001.json").parent)
    notes = [read_sealed(section.note(number)) for number in range(2)]
    assert [note["versions"] for note in notes] == [machine.versions()] * 2
    current = ", ".join(f"{name} {version}" for name, version in sorted(machine.versions().items()))
    _, output, _ = headstart("why", section.key)
    assert output.count("computed with") == 1 and f"  computed with {current}\n" in output
    others = {"tensorflow": "0.8", "keras": "0.9"}
    publish_sealed(section.note(0), {**notes[0], "versions": others})
    finish(section, 200, {})
    _, output, _ = headstart("why", section.key)
    assert f"  computed with keras 0.9, tensorflow 0.8\n  computed with {current}\n" in output


def test_an_entry_that_no_preset_uses_is_compared_with_the_nearest_task(little, headstart):
    name = only(little, "datasets/digits-200-*").name
    _, output, _ = headstart("why", name, *LITTLE)
    assert "not used by any preset" in output
    assert "nearest: PrepareDataset(dataset=digits, subset=100" in output
    assert "differs in 1 field, first subset: 200, expected 100" in output


def test_a_run_of_an_earlier_version_is_explained_by_its_renamed_setting(little, headstart):
    run = only(little, "runs/*")
    manifest = read_manifest(run)
    settings = dict(manifest.fingerprint["settings"])
    settings["rate"] = settings.pop("learning_rate")
    publish_manifest(run, {**manifest.fingerprint, "settings": settings}, manifest.files, manifest.facts)
    _, output, _ = headstart("why", run.name, *LITTLE)
    rate = settings["rate"]
    assert f"differs in 2 fields, first settings.learning_rate: nothing, expected {rate}" in output


def test_the_start_of_a_name_matches_a_cache_with_its_sections(little, headstart):
    _, output, _ = headstart("why", "vgg16-random-digits")
    for path in little.glob("features/*/*"):
        assert f"{path.relative_to(little)}: section" in output
    assert output.count(": cache") == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}'])
def test_a_manifest_that_cannot_be_read_is_reported_as_damaged(little, headstart, content):
    folder = only(little, "runs/*")
    (folder / "manifest.json").write_text(content)
    code, output, _ = headstart("why", folder.name)
    assert (code, "damaged: not a manifest of this project" in output) == (0, True)


def test_a_file_of_another_size_is_named(little, headstart):
    path = only(little, "raw/weights/*/weights.h5")
    path.unlink()
    path.write_bytes(b"")
    _, output, _ = headstart("why", "vgg16-random-")
    assert "incomplete: " in output
    assert "found 0" in output


@pytest.mark.parametrize("name", ["TrainTail", "0123456789ab", "", "x"])
def test_an_error_about_an_unknown_name_lists_tasks_and_folders(little, headstart, name):
    code, output, errors = headstart("why", name, *LITTLE)
    assert (code, output) == (2, "")
    assert f"unknown task or key {name!r}: expected one of CompareSchemes, DownloadWeights" in errors
    assert only(little, "runs/*").name in errors
    assert len(errors.strip().splitlines()) == 1


def test_escape_characters_in_folder_names_are_not_printed(little, headstart):
    folder = only(little, "runs/*")
    shutil.copytree(folder, folder.with_name("evil\x1b[2J-000000000000"))
    _, output, _ = headstart("why", "evil")
    assert "\x1b" not in output
    assert "\\x1b[2J" in output
