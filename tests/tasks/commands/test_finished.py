"""The commands for finished runs list, print, compare, use and export them."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image
from small_graphs import LITTLE, hits_of
from statsmodels.stats.proportion import proportion_confint
from trees import only

from pipeline.backbones.engines import ENGINES
from pipeline.children import run_in_child
from pipeline.runs.result import read_run, write_predictions
from pipeline.storage import layout
from pipeline.storage.publishing import publish_json, publish_manifest, read_manifest
from tasks.commands import doctor
from tasks.commands.compare import with_distinct_names
from tasks.commands.runs import COLUMNS


@pytest.fixture
def run_folder(little):
    return only(little, "runs/*/manifest.json").parent


@pytest.fixture
def two_runs(little, run_folder):
    """The run, and a copy of it under another name; both folders."""
    other = run_folder.with_name("head-other-digits-random-seed0-000000000000")
    shutil.copytree(run_folder, other)
    return run_folder, other


def rewrite(path: Path, value: dict) -> None:
    """Replace a JSON file of a finished folder and update its manifest."""
    manifest = read_manifest(path.parent)
    publish_json(path, value)
    publish_manifest(path.parent, manifest.fingerprint, [*manifest.files], manifest.facts)


def test_runs_are_listed_with_accuracy_interval_and_time(run_folder, headstart):
    code, output, _ = headstart("runs")
    header, line = output.splitlines()
    assert code == 0
    assert header.startswith("data set  image / input px  val") and header.endswith("differs in")
    assert run_folder.name in line
    right, n = hits_of(run_folder)
    low, high = proportion_confint(right, n, method="wilson")
    assert f"  {100 * right / n:.1f} % ({100 * low:.1f}–{100 * high:.1f})  " in line


def test_runs_as_json_have_every_column(run_folder, headstart):
    _, output, _ = headstart("runs", "--json")
    (row,) = json.loads(output)
    assert tuple(row) == COLUMNS
    assert row["run"] == run_folder.name
    right, n = hits_of(run_folder)
    assert row["accuracy"] == pytest.approx(right / n)
    interval = row["accuracy_low"], row["accuracy_high"]
    assert interval == pytest.approx(proportion_confint(right, n, method="wilson"))


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["digits"], 2),
        (["head-other"], 1),
        (["cifar10"], 0),
        (["--only", "scheme=head:*"], 2),
        (["--only", "scheme=fine-tune:*"], 0),
        (["--only", "accuracy>2"], 0),
        (["--only", "accuracy<2", "--only", "run=head-other*"], 1),
    ],
)
def test_runs_are_filtered(two_runs, headstart, arguments, count):
    assert len(json.loads(headstart("runs", "--json", *arguments)[1])) == count


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "colour"], "--sort: expected one of val_accuracy, accuracy, balanced_accuracy, log_loss"),
        (["--only", "colour=red"], "--only 'colour=red': expected one of run, scheme"),
        (["--only", "accuracy>high"], "expected a number after >, received 'high'"),
        (["--only", "scheme>3"], "scheme is text; filter it with ="),
        (["--only", "accuracy"], "expected a filter such as"),
    ],
)
def test_malformed_filters_are_rejected(run_folder, headstart, arguments, message):
    code, _, errors = headstart("runs", *arguments)
    assert code == 2
    assert message in errors


def test_runs_of_a_recipe_are_told_apart_by_the_settings_in_which_they_differ(two_runs, headstart):
    path = two_runs[1] / "recipe.json"
    recipe = json.loads(path.read_text())
    recipe["settings"] |= {"epochs": 7}
    recipe["seed"] = 4
    rewrite(path, recipe)
    rows = {row["run"]: row["differs"] for row in json.loads(headstart("runs", "--json")[1])}
    assert rows == {two_runs[0].name: "epochs 2, 0 (seed)", two_runs[1].name: "epochs 7, 4 (seed)"}


def test_runs_that_differ_in_what_is_no_setting_are_told_apart(two_runs, headstart):
    path = two_runs[1] / "recipe.json"
    recipe = json.loads(path.read_text())
    recipe["fingerprint"]["dataset"]["split"]["seed"] = 3
    recipe["fingerprint"]["features"] |= {"engine": "openvino", "storage": "float16"}
    rewrite(path, recipe)
    rows = {row["run"]: row["differs"] for row in json.loads(headstart("runs", "--json")[1])}
    assert rows == {
        two_runs[0].name: "split seed 0, engine tensorflow, storage float32",
        two_runs[1].name: "split seed 3, engine openvino, storage float16",
    }
    assert json.loads(headstart("runs", "--json", "--only", "run=head-other*")[1])[0]["differs"] == ""


def test_runs_without_val_come_last_and_data_sets_stay_together(run_folder, headstart):
    for number, (title, seed, trained_on_val) in enumerate(
        [("photos", 1, False), ("photos", 2, False), ("photos", 1, True), ("photos", 2, True)]
    ):
        other = run_folder.with_name(f"head-{number}-digits-random-seed0-00000000000{number}")
        shutil.copytree(run_folder, other)
        recipe = json.loads((other / "recipe.json").read_text())
        recipe["dataset_title"], recipe["fingerprint"]["dataset"]["split"]["seed"] = title, seed
        if trained_on_val:
            predictions = other / "predictions.h5"
            with h5py.File(predictions) as file:
                columns = {name: file[name][:] for name in file}
            test = columns["split"] == 2
            columns = {name: values[test] for name, values in columns.items()}
            columns["names"] = [name.decode() for name in columns["names"]]
            write_predictions(predictions, **columns)
            recipe["n_val"] = 0
        rewrite(other / "recipe.json", recipe)
    rows = json.loads(headstart("runs", "--json")[1])
    assert [row["data_set"] for row in rows] == ["digits", *["photos"] * 4]
    assert [row["val_accuracy"] is None for row in rows] == [False, False, True, False, True]
    seeds = [
        read_run(layout_run).recipe["fingerprint"]["dataset"]["split"]["seed"]
        for layout_run in (run_folder.with_name(row["run"]) for row in rows[1:])
    ]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]


def test_a_whole_name_wins_over_one_that_only_contains_it(two_runs, headstart):
    name = two_runs[0].name
    two_runs[1].rename(two_runs[1].with_name(f"x-{name}"))
    assert headstart("show", name)[1].startswith(f"{name}\n")
    assert headstart("show", "head-linear")[1].startswith(f"{name}\n")  # and so does the start of one


def test_a_run_is_deleted_with_its_reports_only_when_asked_for(run_folder, little, headstart, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert headstart("delete", "head-linear")[0] == 2 and run_folder.exists()
    for needed_by in (run_folder, run_folder.with_name("fine-tune-block5-digits-random-seed0-000000000000")):
        with FileLock(layout.lock_of(little, needed_by)):
            code, _, errors = headstart("delete", "head-linear", "--yes")
        assert code == 2 and "a running command may need it" in errors and run_folder.exists()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    questions = []
    for answer in ("", "n", "later"):
        monkeypatch.setattr(
            "builtins.input", lambda question, answer=answer: questions.append(question) or answer
        )
        assert headstart("delete", "head-linear")[:2] == (0, "nothing was deleted\n") and run_folder.exists()
    assert set(questions) == {questions[0]} and f"Delete {run_folder.name} (" in questions[0]

    def closed(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", closed)
    assert headstart("delete", "head-linear")[0] == 130 and run_folder.exists()
    code, output, _ = headstart("delete", "head-linear", "--yes")
    assert code == 0 and output.startswith(f"deleted {run_folder.name}")
    assert not run_folder.exists() and not (little / "reports" / "runs" / run_folder.name).exists()


def test_all_reports_are_on_the_index_page(little, headstart):
    code, output, _ = headstart("open")
    assert code == 0
    page = Path(output.strip())
    assert page == little / "reports" / "index.html"
    assert '<a href="little/index.html">' in page.read_text() and LITTLE.title in page.read_text()
    assert headstart("open", "little")[1].strip() == str(little / "reports" / "little" / "index.html")
    assert headstart("open", "nothing")[0] == 2


def test_runs_on_different_data_sets_are_not_compared(two_runs, headstart):
    path = two_runs[1] / "recipe.json"
    recipe = json.loads(path.read_text())
    rewrite(path, {**recipe, "dataset_title": "photos"})
    code, _, errors = headstart("compare", *(folder.name for folder in two_runs))
    assert code == 2 and "expected runs on the same data set, received runs on digits and photos" in errors


NAMES = {  # of files in bytes, and as text in a CSV file
    b"caf\xe9.png": r"caf\xe9.png",
    b"=1+1.png": "'=1+1.png",
    b"new\nline \x1b[31m.png": r"new\nline \x1b[31m.png",
    b"a?b#c%20&;'.png": "a?b#c%20&;'.png",
    b"y" * 240 + b".png": "y" * 240 + ".png",
}


@pytest.mark.slow
def test_pictures_of_any_name_are_classified_and_none_is_lost(run_folder, headstart, tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / os.fsdecode(name) for name in NAMES]
    for path in paths:
        with path.open("wb") as file:
            Image.new("RGB", (32, 32), "navy").save(file, "PNG")
    monkeypatch.chdir(folder)
    names = [path.name for path in paths]
    code, _, errors = headstart("predict", run_folder.name, *names, "--output", "../out.csv")
    assert code == 0, errors
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == list(NAMES.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "--output", "out.csv"], "'': expected a picture or a folder"),
        ([".", "--output", "nowhere/out.csv"], "nowhere/out.csv: expected a file in an existing folder"),
    ],
)
def test_bad_places_are_refused_before_any_work(
    run_folder, headstart, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    monkeypatch.setattr("tasks.commands.predict.run_in_child", lambda *_: pytest.fail("has begun"))
    code, _, errors = headstart("predict", run_folder.name, *arguments)
    assert code == 2 and message in errors


def test_recipes_are_listed_and_printed_with_their_settings(headstart, data_folder):
    assert "fine-tune:block5 " in headstart("recipes")[1]
    assert (
        headstart("recipes", "dense")[1].partition(": ")[2]
        == headstart("recipes", "head:dense")[1].partition(": ")[2]
    )
    code, output, _ = headstart("recipes", "head:dense")
    assert code == 0 and re.search(r"^  epochs +20 +passes over the training images", output, re.MULTILINE)


def test_runs_are_sorted(two_runs, headstart):
    names = [row["run"] for row in json.loads(headstart("runs", "--json", "--sort", "run")[1])]
    assert names == sorted(folder.name for folder in two_runs)


def test_a_damaged_run_is_named_and_the_others_are_listed(two_runs, headstart, flip_byte):
    flip_byte(two_runs[1] / "predictions.h5")
    code, output, errors = headstart("runs", "--json")
    assert code == 1
    assert [row["run"] for row in json.loads(output)] == [two_runs[0].name]
    assert "predictions.h5: expected sha256" in errors


def test_show_takes_a_part_of_the_name_or_the_folder_of_a_run(run_folder, headstart):
    code, output, _ = headstart("show", "head-linear")
    assert code == 0
    assert output == headstart("show", str(run_folder))[1]
    for word in (
        "head:linear, weights random, seed 0, float32",
        "test accuracy ",
        "epochs = 2",
    ):
        assert word in output


@pytest.mark.parametrize(
    ("name", "message"),
    [("head", "received that of 2: head-linear"), ("none", "there are: head-linear")],
)
def test_a_name_that_matches_no_run_or_several_is_rejected(two_runs, headstart, name, message):
    code, _, errors = headstart("show", name)
    assert code == 2
    assert message in errors


def test_compare_writes_a_separate_report(two_runs, little, headstart):
    code, output, _ = headstart("compare", *(folder.name for folder in two_runs), "--name", "mine")
    assert code == 0
    assert str(little / "reports" / "mine") in output
    manifest = read_manifest(little / "reports" / "mine")
    assert manifest.missing() is None
    assert manifest.fingerprint == {"compared": [folder.name for folder in two_runs]}
    assert {"comparison.csv", "differences.csv", "comparison.md"} <= set(manifest.files)
    right, n = hits_of(two_runs[0])
    table = pd.read_csv(little / "reports" / "mine" / "comparison.csv")
    assert table["accuracy"].tolist() == pytest.approx([right / n] * 2)  # one run is a copy of the other


def test_comparisons_of_different_data_sets_share_neither_a_folder_nor_a_title(two_runs, little, headstart):
    headstart("compare", *(folder.name for folder in two_runs))
    for folder in two_runs:
        recipe = json.loads((folder / "recipe.json").read_text())
        recipe["fingerprint"]["dataset"]["split"]["seed"] = 3
        rewrite(folder / "recipe.json", recipe)
    headstart("compare", *(folder.name for folder in two_runs))
    pages = [path.read_text() for path in sorted(little.glob("reports/compared-*/index.html"))]
    titles = [re.search("<title>(.*?)</title>", page)[1] for page in pages]
    assert len(set(titles)) == 2 and all("Comparison of 2 runs · digits · compared-" in one for one in titles)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["head-linear"], "expected at least two runs to compare, received 1"),
        (["head-linear", "head-other", "--name", "demo"], "and not the name of a preset"),
        (["head-linear", "head-other", "--name", "../x"], "expected up to 100 letters"),
    ],
)
def test_invalid_comparisons_are_rejected(two_runs, headstart, arguments, message):
    code, _, errors = headstart("compare", *arguments)
    assert code == 2
    assert message in errors


@pytest.fixture
def pictures(little, tmp_path):
    """A folder with the first three digits as pictures, and a broken one."""
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    images = np.load(only(little, "datasets/digits-100-*/images.npy"))
    for number in range(3):
        Image.fromarray(images[number]).resize((64, 48)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"broken")
    return folder


def test_predict_writes_csv_and_names_the_unreadable_picture(run_folder, headstart, pictures, tmp_path):
    predictions = tmp_path / "predictions.csv"
    code, output, errors = headstart("predict", "head-linear", str(pictures), "--output", str(predictions))
    assert (code, output) == (1, "")
    assert "broken.png: not a readable picture" in errors
    with predictions.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(pictures / f"{number}.png") for number in range(3)]
    for row in rows:
        values = [float(row[name]) for name in ("probability", "probability_2", "probability_3")]
        assert values == sorted(values, reverse=True)
        assert {row["class"], row["class_2"], row["class_3"]} <= set("0123456789")


@pytest.mark.slow
def test_a_run_of_a_head_is_exported_with_its_backbone(run_folder, little, headstart, tmp_path):
    out = tmp_path / "model.keras"
    code, output, errors = headstart("export", "head-linear", str(out))
    assert (code, errors) == (0, "")
    assert "keras: parity on" in output
    assert f"wrote {out}" in output
    test = read_run(run_folder).split("test")
    with h5py.File(only(little, "datasets/digits-100-*/dataset.h5")) as file:
        rows = [file["names"].asstr()[:].tolist().index(name) for name in test.names]
        images = np.load(only(little, "datasets/digits-100-*/images.npy"))[rows]
    probabilities = keras.models.load_model(out).predict(images, verbose=0)
    assert np.abs(probabilities - test.probabilities).max() < 1e-4


def test_an_error_about_missing_weights_names_the_command_that_downloads_them(
    run_folder, little, headstart, pictures
):
    shutil.rmtree(little / "raw")
    code, _, errors = headstart("predict", "head-linear", str(pictures))
    assert code == 2
    assert "DownloadWeights --backbone vgg16 --weights random" in errors


@pytest.fixture
def one_engine(monkeypatch):
    """Let doctor find TensorFlow alone, because it measures several engines for half a minute."""
    monkeypatch.setattr(doctor, "ENGINES", {"tensorflow": ENGINES["tensorflow"]})


def test_doctor_names_the_fastest_engine_at_each_size(little, headstart, monkeypatch):
    rates = {("tensorflow", 32): 9.0, ("openvino", 32): 8.0, ("tensorflow", 128): 1.0, ("openvino", 128): 2.0}

    def measured(function, arguments):
        if function != "pipeline.features.passes:images_per_second":
            return run_in_child(function, arguments)
        return rates[arguments["engine"], arguments["input_size"]]

    present = [replace(ENGINES[name], package="numpy") for name in ("tensorflow", "openvino")]
    monkeypatch.setattr(doctor, "ENGINES", {engine.name: engine for engine in present})
    monkeypatch.setattr(doctor, "run_in_child", measured)
    lines = headstart("doctor", "--offline")[1].splitlines()
    small, large = [line for line in lines if "images/s" in line]
    assert small.endswith("images/s: tensorflow 9.0, openvino 8.0")
    assert large.endswith("images/s: tensorflow 1.0, openvino 2.0; --engine openvino is the fastest here")


def test_doctor_describes_the_machine_and_contacts_no_mirror_when_offline(
    little, headstart, monkeypatch, one_engine
):
    monkeypatch.setenv("HEADSTART_CIFAR10_URLS", "http://127.0.0.1:9/x.tar.gz")
    monkeypatch.setenv("HEADSTART_WEIGHTS_URLS", "http://127.0.0.1:9/x.h5")
    code, output, _ = headstart("doctor", "--offline")
    assert code == 0
    for word in (
        "Python 3",
        "tensorflow 2",
        "of memory",
        "free for",
        "cores",
        "its mirrors were not checked",
    ):
        assert word in output
    code, output, _ = headstart("doctor")
    assert code == 0
    for what, file in (("CIFAR-10", "x.tar.gz"), ("VGG16's weights", "x.h5")):
        assert f"{what}: mirror http://127.0.0.1:9/{file} did not respond (ConnectionError)" in output


@pytest.fixture
def file_system(little, headstart, monkeypatch, one_engine):
    """Return a function that returns the exit code and doctor's lines on the file system."""
    monkeypatch.setattr(doctor, "_machine", lambda: [])

    def check() -> tuple[int, list[str]]:
        code, output, _ = headstart("doctor", "--offline")
        assert not list(little.glob(".doctor*"))
        lines = [line.split(str(little)) for line in output.splitlines() if str(little) in line]
        return code, [state.strip() + rest for state, rest in lines]

    return check


def test_doctor_checks_the_file_system_of_the_data_folder(file_system):
    assert file_system() == (0, ["ok: locks and renames work"])


def test_doctor_finds_a_file_system_without_locks(file_system, no_locks):
    code, (line,) = file_system()
    assert (code, line[:6]) == (1, "broken")
    assert "the file system does not lock files (No locks available)" in line


def test_doctor_finds_locks_that_do_not_keep_another_process_out(file_system, monkeypatch):
    monkeypatch.setenv("HEADSTART_EXTENSIONS", "free_locks")
    assert file_system() == (1, ["broken: a lock of one process does not keep another out"])


@pytest.mark.parametrize("seconds", [-7.0, 7.0])
def test_doctor_finds_a_clock_that_differs(file_system, monkeypatch, seconds):
    now = time.time
    monkeypatch.setattr(doctor.time, "time", lambda: now() + seconds)
    code, (_, line) = file_system()
    assert (code, line[:6]) == (1, "broken")
    assert 6.5 < float(re.search(r"its clock differs by ([\d.]+) s", line)[1]) < 7.5


@pytest.mark.parametrize(
    ("folder", "options"),
    [
        ("/shared/data", ["nolock"]),
        ("/shared/my pictures/data", ["fuse.sshfs"]),
        ("/shared/lustre", []),
        ("/shared/old lustre/a/b", ["localflock"]),
        ("/home/me", []),
    ],
)
def test_mounts_whose_locks_hold_on_one_machine_only_are_known(tmp_path, folder, options):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\n"
        "server:/data /shared nfs rw,vers=3,nolock,addr=10.0.0.1 0 0\n"
        "me@host: /shared/my\\040pictures fuse.sshfs rw,user_id=0 0 0\n"
        "10.0.0.1@tcp:/fs /shared/lustre lustre rw,flock 0 0\n"
        "10.0.0.1@tcp:/fs /shared/old\\040lustre lustre rw,localflock 0 0\n"
    )
    assert doctor.local_locks(Path(folder), mounts) == options


def test_doctor_warns_about_a_slow_machine(little, headstart, monkeypatch, one_engine):
    monkeypatch.setattr("pipeline.machine.native_bfloat16", lambda: False)
    monkeypatch.setattr("pipeline.machine.total_memory_bytes", lambda: 2_000_000_000)
    _, output, _ = headstart("doctor", "--offline")
    slow = [line for line in output.splitlines() if line.startswith("slow")]
    assert any("no bfloat16 in hardware" in line for line in slow)
    assert any("2.0 GB of memory" in line for line in slow)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completions_name_every_command(headstart, shell):
    code, output, _ = headstart("completion", shell)
    assert code == 0
    for name in ("run", "plan", "predict", "export", "doctor"):
        assert name in output


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_completion_works_in_bash(headstart, tmp_path):
    script = tmp_path / "headstart.bash"
    script.write_text(headstart("completion", "bash")[1])
    code = (
        f"source {script}; COMP_WORDS=(headstart pred); COMP_CWORD=1; "
        "$(complete -p headstart | sed 's/.*-F \\([^ ]*\\).*/\\1/'); echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["predict"], done.stderr


def test_runs_of_one_scheme_are_named_by_the_settings_in_which_they_differ(run_folder):
    run = read_run(run_folder)
    settings = run.recipe["settings"]
    longer = replace(run, recipe={**run.recipe, "settings": {**settings, "epochs": 9, "units": [1, 2]}})
    other = replace(run, recipe={**run.recipe, "scheme": "head:dense"})
    names = [named.recipe["scheme"] for named in with_distinct_names([run, longer, other])]
    assert names[0].startswith("head:linear (epochs 2")
    assert names[1] == "head:linear (epochs 9, units 1+2)"
    assert names[2] == "head:dense"
    assert with_distinct_names([run, run]) == [run, run]


def test_compare_writes_a_page_with_the_command_and_pictures(two_runs, headstart):
    code, output, _ = headstart("compare", *(folder.name for folder in two_runs), "--name", "mine")
    page = Path(output.splitlines()[-1].removeprefix("Report: "))
    assert code == 0 and page.name == "index.html"
    text = page.read_text(encoding="utf-8")
    assert f"headstart compare {two_runs[0].name} {two_runs[1].name} --name mine" in text
    assert "data:image/png;base64," in text  # the data set is there, so the examples have pictures
