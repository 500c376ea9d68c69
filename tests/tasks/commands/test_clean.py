"""`headstart clean` removes only unused files, and only with --yes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from trees import only, tree

from pipeline.errors import HeadstartError
from pipeline.recipes.presets import PRESETS
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import Manifest, publish_manifest, read_manifest
from pipeline.upkeep.clean import Leftover, features_above, needs_of_runs, remove
from pipeline.upkeep.inventory import Entry


@pytest.fixture
def maps(little):
    """The cache of feature maps that no preset and no run uses."""
    return only(little, "features/*/*/shard-00001.h5").parents[1]


def listed(output: str, word: str) -> set[str]:
    """Return the paths on lines that begin with a word."""
    return {line.split()[3] for line in output.splitlines() if line.startswith(f"{word} ")}


def dead_process() -> int:
    """Return the id of a process that has ended."""
    return int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))


def test_clean_lists_what_no_preset_or_run_uses_and_removes_nothing(little, maps, headstart):
    before = tree(little)
    code, output, _ = headstart("clean")
    assert code == 0
    assert listed(output, "unused") == {
        f"features/{maps.name}",
        only(little, "datasets/*-200-*").relative_to(little).as_posix(),
    }
    assert re.search(r"unused +19\.7 MB +features/", output)
    assert "`headstart clean --yes` removes them" in output
    assert tree(little) == before


def test_yes_removes_what_was_listed_and_reports_the_space_freed(little, maps, headstart):
    before, dataset = tree(little), only(little, "datasets/digits-200-*").name
    _, output, _ = headstart("clean", "--yes")
    gone = set(before) - set(tree(little))
    assert {name.split("/")[1] for name in gone} == {maps.name, dataset}
    assert re.search(r"2 entries removed, 20\.\d MB freed", output)
    assert "nothing to clean" in headstart("clean", "--yes")[1]


def test_sources_of_an_existing_run_are_kept_when_no_preset_uses_them(little, headstart, monkeypatch):
    monkeypatch.delitem(PRESETS, "little")
    _, output, _ = headstart("clean", "--yes")
    assert only(little, "datasets/digits-100-*").is_dir()
    assert only(little, "features/*/*/shard-00000.h5").is_file()
    shutil.rmtree(only(little, "runs/*"))
    assert len(listed(headstart("clean")[1], "unused")) == 2


def test_features_of_a_run_with_a_damaged_manifest_are_kept(little, maps, headstart):
    only(little, "runs/*/manifest.json").write_text("{")
    headstart("clean", "--yes")
    assert only(little, "features/*/*/shard-00000.h5").is_file()
    assert only(little, "runs/*/model.keras").is_file()


def test_unfinished_folders_are_removed_except_features_that_a_run_resumes(little, maps, headstart):
    only(little, "runs/*/manifest.json").unlink()
    ours = next(path for path in little.glob("features/*/*/manifest.json") if maps not in path.parents)
    ours.unlink()
    (little / "datasets" / "digits-000000000000").mkdir()
    unused = listed(headstart("clean")[1], "unused")
    assert only(little, "runs/*").relative_to(little).as_posix() in unused
    assert "datasets/digits-000000000000" in unused
    assert not any(ours.parents[1].name in place for place in unused)


def test_scratch_files_of_dead_processes_are_removed_and_those_of_running_ones_are_kept(little, headstart):
    folder, host = only(little, "raw/weights/*"), os.uname().nodename.replace("_", "-")
    dead = folder / f".weights.scratch-{host}_{dead_process()}-00000000.h5"
    alive = folder / f".weights.scratch-{host}_{os.getpid()}-00000000.h5"
    elsewhere = folder / ".weights.scratch-another_1-00000000.h5"
    for path in (dead, alive, elsewhere):
        path.write_text("half")
    headstart("clean", "--yes")
    assert [path.exists() for path in (dead, alive, elsewhere)] == [False, True, True]


def test_a_run_that_would_resume_is_kept_with_its_checkpoint(little, headstart):
    run = only(little, "runs/*")
    (run / "manifest.json").unlink()
    assert f"runs/{run.name}" in listed(headstart("clean")[1], "unused")
    (run / "checkpoint.npz").write_bytes(b"state")
    assert f"runs/{run.name}" not in headstart("clean")[1]


def test_the_checkpoint_of_a_finished_run_is_removed_and_the_run_is_kept(little, headstart):
    run = only(little, "runs/*")
    (run / "checkpoint.npz").write_bytes(b"state")
    before = tree(run)
    headstart("clean", "--yes")
    assert set(before) - set(tree(run)) == {"checkpoint.npz"}


def test_an_interrupted_study_is_kept(little, headstart):
    study = little / "studies" / "from-scratch-lesson-digits-0123456789ab"
    study.mkdir(parents=True)
    (study / "study.log").write_bytes(b"trials")
    _, output, _ = headstart("clean", "--yes")
    assert (study / "study.log").exists()
    assert "studies" not in output


def test_the_quarantine_is_removed(little, headstart):
    (little / "quarantine" / "20260101-000000" / "runs").mkdir(parents=True)
    assert "quarantine/20260101-000000" in listed(headstart("clean")[1], "unused")
    headstart("clean", "--yes")
    assert not (little / "quarantine").exists()


def test_files_of_the_user_are_kept(little, headstart):
    mine = [little / "README.md", little / ".gitignore", little / "raw" / "cifar-10-python.tar.gz"]
    mine += [
        little / "raw" / "weights" / "my.h5",
        little / "runs" / "notes" / "a.txt",
        little / "own" / "b.txt",
    ]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    _, output, _ = headstart("clean", "--yes")
    assert all(path.is_file() for path in mine)
    assert re.search(r"kept +4 B +raw/cifar-10-python.tar.gz +not created by headstart", output)
    assert re.search(r"kept +4 B +raw/weights/my.h5 +not created by headstart", output)


@pytest.mark.parametrize("inside", [False, True])
def test_links_are_removed_and_never_followed(little, maps, headstart, tmp_path, inside):
    (tmp_path / "treasure").mkdir()
    (tmp_path / "treasure" / "gold").write_text("mine")
    link = maps / "link" if inside else little / "features" / "vgg16-own-digits-000000000000"
    link.symlink_to(tmp_path / "treasure", target_is_directory=True)
    headstart("clean", "--yes")
    assert not link.is_symlink()
    assert (tmp_path / "treasure" / "gold").is_file()


@pytest.mark.parametrize("tier", ["features", "datasets", "quarantine"])
def test_a_tier_that_is_a_link_is_left_alone(little, headstart, tmp_path, tier):
    outside = tmp_path / "outside"
    if tier == "quarantine":
        (outside / "x").mkdir(parents=True)
    else:
        (little / tier).rename(outside)
    (little / tier).symlink_to(outside, target_is_directory=True)
    before = tree(outside)
    assert headstart("clean", "--yes")[0] == 0
    assert tree(outside) == before


def test_a_folder_whose_lock_is_held_is_kept(little, maps, headstart):
    dataset = only(little, "datasets/digits-200-*")
    with FileLock(little / ".locks" / f"datasets-{dataset.name}.lock"):
        _, output, _ = headstart("clean", "--yes")
    assert dataset.is_dir()
    assert re.search(rf"kept +\S+ kB +datasets/{dataset.name} +in use by another process", output)
    assert not maps.exists()


def test_features_being_computed_are_kept_with_their_images(little, maps, headstart):
    locks = next(maps.glob("identity-*")) / ".locks"
    locks.mkdir()
    with FileLock(locks / "shard-00001.lock"):
        headstart("clean", "--yes")
    assert maps.is_dir()
    assert only(little, "datasets/digits-200-*").is_dir()


def test_nothing_is_removed_that_a_run_in_training_may_read(little, maps, headstart):
    with FileLock(little / ".locks" / "runs-head-linear-something-else.lock"):
        _, output, _ = headstart("clean", "--yes")
    assert maps.is_dir()
    assert "a run is being trained and may read it" in output


def test_a_lock_that_is_taken_after_the_list_was_made_is_respected(little, maps):
    section = next(maps.glob("identity-*"))
    (section / ".locks").mkdir()
    with FileLock(section / ".locks" / "shard-00000.lock"):
        removed, in_use = remove(little, [Leftover(maps, "", 0)])
    assert (removed, [leftover.path for leftover in in_use]) == ([], [maps])
    assert maps.is_dir()


@pytest.mark.parametrize("place", ["..", "../outside", "README.md", "."])
def test_nothing_outside_the_data_folder_is_removed(little, place):
    (little / "README.md").write_text("ours")
    (little.parent / "outside").mkdir()
    with pytest.raises(HeadstartError, match="not removed"):
        remove(little, [Leftover(little / place, "", 0)])
    assert (little.parent / "outside").is_dir()


def rewritten(little, **changes) -> Path:
    """Give the run another fingerprint, and the folder name that belongs to it."""
    old = only(little, "runs/*")
    manifest = read_manifest(old)
    fingerprint = {**manifest.fingerprint, **changes}
    run = old.rename(old.with_name(f"{old.name.rpartition('-')[0]}-{key_of(fingerprint)}"))
    publish_manifest(run, fingerprint, manifest.files, manifest.facts)
    return run


@pytest.mark.parametrize("scheme", ["mine:linear", "head:mine"])
def test_a_run_that_no_command_can_repeat_is_kept_with_its_sources(little, headstart, monkeypatch, scheme):
    monkeypatch.delitem(PRESETS, "little")
    run = rewritten(little, scheme=scheme, settings={"rate": 0.1})
    headstart("clean", "--yes")
    assert (run / "model.keras").is_file()
    assert only(little, "datasets/digits-100-*").is_dir()


def test_a_run_with_current_settings_at_other_values_is_kept(little, headstart):
    settings = read_manifest(only(little, "runs/*")).fingerprint["settings"]
    run = rewritten(little, settings={**settings, "learning_rate": 0.125})
    assert run.relative_to(little).as_posix() not in listed(headstart("clean")[1], "unused")


def test_a_run_trained_from_cached_maps_uses_them(tmp_path):
    shared = {"backbone": "vgg16", "weights": "x", "views": ["identity"]}
    features = {**shared, "pooling": "average", "layers": ["block5_pool"]}
    maps = {**shared, "pooling": "none", "layers": ["block4_pool"]}
    fingerprint = {"dataset": {"name": "digits"}, "features": features, "maps": maps}
    run = Entry("run", tmp_path, Manifest(tmp_path, fingerprint, {}))
    used = {(request["pooling"], *request["layers"]) for request in needs_of_runs([run]).requests}
    assert used == {("average", "block5_pool"), ("none", "block4_pool")}


def test_keep_frees_maps_before_averages_and_the_oldest_first(little, maps, headstart):
    assert headstart("clean", "--yes")[0] == 0  # of unused ones, nothing remains but what the preset uses
    averages = {path.parent for path in little.glob("features/*/*/manifest.json")}
    used = only(little, "features/*/*/manifest.json").parent
    older = shutil.copytree(used, used.parents[1] / "older-000000000000" / used.name)
    for folder, pooling, age in ((older, "none", 100), (used, "average", 1000)):
        manifest = read_manifest(folder)
        fingerprint = {**manifest.fingerprint, "pooling": pooling}
        publish_manifest(folder, fingerprint, list(manifest.files), manifest.facts)
        stamp = folder.joinpath("manifest.json").stat().st_mtime - age
        os.utime(folder / "manifest.json", (stamp, stamp))
    assert used in averages
    size = sum(path.stat().st_size for path in used.rglob("*") if path.is_file())
    (first,) = features_above(little, int(1.5 * size))
    assert (first.path, first.reason) == (older, "feature maps above the limit; they can be extracted again")
    assert [one.path for one in features_above(little, size // 2)] == [older, used]
    assert features_above(little, 2 * size) == []
    assert features_above(little, size, [older.parent]) == []
    code, output, _ = headstart("clean", "--keep", "0B", "--yes")
    assert code == 0 and not used.exists() and "features above the limit" in output


def test_keep_leaves_features_that_a_running_training_may_read(little, headstart):
    used = sorted(little.glob("features/*/*/manifest.json"))[0]
    lock = little / ".locks" / "runs-one-0123456789ab.lock"
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        code, output, _ = headstart("clean", "--keep", "0B", "--yes")
    assert code == 0 and used.exists() and "a run is being trained and may read it" in output


@pytest.mark.parametrize("text", ["20", "GB", "-1GB", "20 parsecs"])
def test_a_size_that_cannot_be_read_is_an_error(little, headstart, text):
    code, _, errors = headstart("clean", f"--keep={text}")
    assert code == 2 and "expected a size such as 20GB or 500MB" in errors
