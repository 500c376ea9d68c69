"""`headstart verify` detects files that changed after they were written, and repairs only those."""

from __future__ import annotations

import json
import os
import re

import h5py
import pytest
from filelock import FileLock
from trees import only, tree

from pipeline.storage.publishing import describe_file, publish_sealed, read_sealed

FILES = ("verify", "--sample", "0")


def maps_of(data_folder):
    """Return the folder of the section that holds maps in two shards."""
    return only(data_folder, "features/*/*/shard-00001.h5").parent


def test_fresh_results_have_no_damage_and_recomputed_rows_are_identical(little, headstart):
    code, output, _ = headstart("verify", "--sample", "8")
    assert code == 0
    assert output.count("8 rows recomputed, largest difference: block1_pool 0") == 2
    assert "no damage, 0 unlisted" in output


@pytest.mark.parametrize(
    "place", ["raw/weights", "datasets", "features/*", "runs", "reports/runs/*", "reports"]
)
def test_one_flipped_bit_in_any_tier_is_detected_and_the_file_is_named(little, headstart, flip_byte, place):
    manifest = next(iter(sorted(little.glob(f"{place}/*/manifest.json"))))
    path = manifest.parent / sorted(json.loads(manifest.read_text())["files"])[0]
    content = path.read_bytes()
    path.unlink()  # it may be a hard link
    path.write_bytes(content)
    flip_byte(path)
    code, output, _ = headstart(*FILES)
    assert code == 1
    damaged = [line for line in output.splitlines() if line.startswith("damaged")]
    assert len(damaged) == 1
    assert str(path.relative_to(little)) in damaged[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a manifest of this project"),
        ('{"format": 1, "key": "0", "fingerprint": {}, "files": {}, "facts": {}}', "its key does not match"),
        (
            '{"format":1,"key":"44136fa355b3","fingerprint":{},"facts":{},"files":{"../x":{}}}',
            "entry is malformed",
        ),
        (
            '{"format":1,"key":"4f53cda18c2b","fingerprint":[],"facts":{},"files":{}}',
            "expected objects as fingerprint and facts",
        ),
        ("[" * 100_000, "not a manifest of this project"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(little, headstart, content, message):
    only(little, "runs/*/manifest.json").write_text(content)
    code, output, _ = headstart(*FILES)
    assert code == 1
    assert re.search(rf"damaged +runs/\S+/manifest.json +.*{message}", output)


@pytest.mark.parametrize("name", ["\x00", "\ud800", "n" * 300, "", ".", "a\n\x1b[2J"])
def test_invalid_file_names_in_a_manifest_are_damage_and_not_a_crash(little, headstart, name):
    path = only(little, "runs/*/manifest.json")
    content = read_sealed(path)
    content["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    publish_sealed(path, content)
    code, output, _ = headstart(*FILES)
    assert code == 1
    assert "\x1b" not in output


def test_links_out_of_the_data_folder_are_not_followed(little, headstart, tmp_path):
    model = only(little, "runs/*/model.keras")
    model.rename(tmp_path / "model.keras")
    model.symlink_to(tmp_path / "model.keras")
    (little / "features" / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    code, output, _ = headstart(*FILES)
    assert code == 1
    assert "links outside the data folder and is not followed" in output
    assert re.search(r"unlisted +features/elsewhere +a link; it is not followed", output)


def test_unlisted_files_are_reported_and_are_not_damage(little, headstart, data_folder):
    (little / "raw" / "notes.txt").write_text("mine")
    (only(little, "runs/*") / f".model.scratch-{os.uname().nodename}_{os.getpid()}-0.keras").write_text(
        "busy"
    )
    code, output, _ = headstart(*FILES)
    assert code == 0
    assert re.search(r"unlisted +raw/notes.txt +no manifest lists it", output)
    assert "1 unlisted" in output


@pytest.mark.parametrize("exists", [False, True])
def test_an_empty_or_missing_data_folder_has_no_damage_and_is_not_created(data_folder, headstart, exists):
    if exists:
        data_folder.mkdir()
    for arguments in (["verify"], ["verify", "--repair"], ["clean"], ["clean", "--yes"]):
        assert headstart(*arguments)[0] == 0
    assert data_folder.exists() == exists
    assert tree(data_folder) == {}


@pytest.mark.slow
def test_rows_that_were_changed_together_with_their_checksums_are_detected(little, headstart):
    folder = maps_of(little)
    shard, path = folder / "shard-00001.h5", folder / "manifest.json"
    with h5py.File(shard, "r+") as file:
        file["features/block2_pool"][:] = file["features/block2_pool"][:][::-1]
    content = read_sealed(path)
    content["files"][shard.name] = describe_file(shard)
    publish_sealed(path, content)
    code, output, _ = headstart("verify")
    assert code == 1
    damaged = [line for line in output.splitlines() if line.startswith("damaged")]
    assert len(damaged) == 1
    assert "shard-00001.h5" in damaged[0]
    assert "block2_pool differs by" in damaged[0]


def test_rows_without_their_images_are_reported_as_not_recomputed(little, headstart):
    for path in little.glob("datasets/*/manifest.json"):
        path.unlink()
    code, output, _ = headstart("verify")
    assert code == 0
    assert output.count("rows not recomputed: the prepared data set is not in the data folder") == 2


def test_repair_recomputes_only_the_damaged_shard_and_keeps_the_old_file(little, headstart, flip_byte):
    folder = maps_of(little)
    flip_byte(folder / "shard-00001.h5")
    damaged, before = (folder / "shard-00001.h5").read_bytes(), tree(little)
    code, output, _ = headstart(*FILES, "--repair")
    assert code == 0
    assert "shard-00001.h5 recomputed" in output
    after = tree(little)
    place = str(folder.relative_to(little))
    changed = {name for name in before if before[name][:2] != after.get(name, ())[:2] and "." in name[-6:]}
    names = ("shard-00001.h5", "shard-00001.json", "manifest.json", "costs.json")
    assert {name for name in changed if ".locks" not in name} == {f"{place}/{name}" for name in names}
    assert only(little, f"quarantine/*/{place}/shard-00001.h5").read_bytes() == damaged
    assert only(little, f"quarantine/*/{place}/shard-00001.json")


@pytest.mark.slow
def test_damaged_costs_of_features_are_reported_and_repaired_without_computing(little, headstart, flip_byte):
    costs = maps_of(little) / "costs.json"
    expected, before = costs.read_bytes(), tree(costs.parent)
    flip_byte(costs)
    code, output, _ = headstart(*FILES)
    assert code == 1
    assert re.search(r"damaged +features/\S+/costs.json ", output)
    assert headstart(*FILES, "--repair")[0] == 0
    assert costs.read_bytes() == expected
    assert only(little, "quarantine/*/features/*/*/costs.json")
    after = tree(costs.parent)
    assert {name: after[name] for name in before if "shard" in name} == {
        name: state for name, state in before.items() if "shard" in name
    }


def test_repair_moves_the_damaged_file_and_manifest_of_a_run_so_that_it_is_trained_again(
    little, headstart, flip_byte
):
    flip_byte(only(little, "runs/*/model.keras"))
    code, output, _ = headstart(*FILES, "--repair")
    assert code == 0
    assert "now unfinished; the next `headstart run` that needs it rebuilds it" in output
    assert {path.name for path in little.glob("quarantine/*/runs/*/*")} == {"model.keras", "manifest.json"}
    _, plan, _ = headstart("plan", "--preset", "little", "--precision", "float32")
    assert re.search(r"missing +TrainHead", plan)


def test_repair_without_the_sources_moves_the_features_and_reports_it(little, headstart, flip_byte):
    for path in little.glob("datasets/*/manifest.json"):
        path.unlink()
    flip_byte(maps_of(little) / "shard-00001.h5")
    code, output, _ = headstart(*FILES, "--repair")
    assert code == 0
    assert "not rebuilt, because the prepared data set is not in the data folder" in output
    assert len(list(little.glob("quarantine/*/features/*/*/*"))) == 3


def test_repair_moves_a_link_and_not_its_target(little, headstart, tmp_path):
    model, outside = only(little, "runs/*/model.keras"), tmp_path / "model.keras"
    model.rename(outside)
    model.symlink_to(outside)
    assert headstart(*FILES, "--repair")[0] == 0
    assert outside.is_file()
    assert only(little, "quarantine/*/runs/*/model.keras").is_symlink()


def test_repair_does_not_follow_a_link_to_a_folder(little, headstart, tmp_path):
    run, outside = only(little, "runs/*"), tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    (run / "sub").symlink_to(outside, target_is_directory=True)
    content = read_sealed(run / "manifest.json")
    content["files"]["sub/mine.txt"] = {"bytes": 1, "sha256": "0" * 64}
    publish_sealed(run / "manifest.json", content)
    assert headstart(*FILES, "--repair")[0] == 0
    assert (outside / "mine.txt").is_file()
    assert only(little, "quarantine/*/runs/*/sub").is_symlink()


def test_repair_skips_folders_in_use_by_another_process(little, headstart, flip_byte):
    run = only(little, "runs/*")
    flip_byte(run / "model.keras")
    before = tree(run)
    with FileLock(little / ".locks" / f"runs-{run.name}.lock"):
        code, output, _ = headstart(*FILES, "--repair")
    assert code == 1
    assert "skipped, in use by another process" in output
    assert tree(run) == before


@pytest.mark.parametrize("arguments", [["--sample", "-1"], ["--seed", "-1"]])
def test_numbers_out_of_range_give_one_line_and_exit_code_2(headstart, arguments):
    code, _, errors = headstart("verify", *arguments)
    assert code == 2
    assert errors == f"headstart: error: {arguments[0]}: expected 0 to 2147483647, received -1\n"
