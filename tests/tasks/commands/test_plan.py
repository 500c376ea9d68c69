"""`headstart plan` lists tasks as done, stale or missing with estimates, and changes nothing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest
from test_planning import HEAVY
from trees import only, tree

import pipeline.machine
from pipeline.backbones.table import BACKBONES
from pipeline.errors import ChildFailed
from pipeline.recipes.fine_tune import FINE_TUNE_RECIPES
from pipeline.recipes.heads import HEADS
from pipeline.storage.publishing import publish_sealed, read_sealed
from pipeline.upkeep.estimates import Measurements, work_of

LITTLE = ("plan", "--preset", "little", "--precision", "float32")


def states(output: str) -> dict[str, str]:
    """Return the state of each task by family; the preset has one task of each."""
    lines = [line.split() for line in output.split("\n\n")[0].splitlines()]
    return {family: state for state, family, *_ in lines}


def test_a_finished_preset_has_nothing_to_run(little, headstart):
    code, output, _ = headstart(*LITTLE)
    assert code == 0
    assert set(states(output).values()) == {"done"}
    assert output.endswith("0 of 7 tasks to run: everything is up to date\n")


def test_each_task_is_listed_once_after_its_dependencies(little, headstart):
    families = list(states(headstart(*LITTLE)[1]))
    assert families[-1] == "CompareSchemes"
    assert families.index("ExtractFeatures") < families.index("TrainHead") < families.index("ScoreRun")
    assert len(families) == 7


@pytest.mark.parametrize("state", ["none", "empty", "full"])
def test_planning_keeps_the_measured_speed_and_changes_nothing_else(
    made_little, data_folder, headstart, state
):
    if state == "empty":
        data_folder.mkdir()
    elif state == "full":
        shutil.copytree(made_little, data_folder)
    before = tree(data_folder)
    assert headstart("plan", "--dataset", "digits", "--subset", "200", "--weights", "random")[0] == 0
    assert headstart("why", "TrainHead", "--weights", "random")[0] == 0
    assert data_folder.exists() == (state != "none")
    after = tree(data_folder)
    speed = after.pop(".speed.json", None)
    assert speed or state != "empty"
    assert after == before


def line_of(output: str, *words: str) -> str:
    """Return the only line of an output that contains all words."""
    (line,) = [line for line in output.splitlines() if all(word in line for word in words)]
    return line


def test_without_measurements_times_are_estimated_from_the_speed_of_the_machine(headstart):
    _, output, _ = headstart("plan", "--preset", "full", "--precision", "float32")
    assert "not measured" not in output
    for words in (
        ("ExtractFeatures", "7.9 GB"),
        ("FineTune", "fine-tune-block5"),
        ("TrainFromScratch", "lesson"),
    ):
        assert re.search(r"about (\d+ h|\d+ min|[\d.]+ s)", line_of(output, *words))


def test_a_speed_that_cannot_be_measured_leaves_times_unknown(headstart, monkeypatch):
    def fail(*_):
        raise ChildFailed("killed")

    monkeypatch.setattr("pipeline.upkeep.estimates.run_in_child", fail)
    code, output, _ = headstart("plan", "--preset", "full", "--precision", "float32")
    assert code == 0
    assert "not measured yet on this machine" in line_of(output, "FineTune", "fine-tune-block5")
    assert re.search(r"fine-tune:block5 +imagenet +128 px +0 +\? +\?", output)


def test_unmeasured_time_grows_with_images_epochs_and_pixels(monkeypatch, tmp_path):
    monkeypatch.setattr(Measurements, "matrix_rate", 1e11)
    measured, row = Measurements(tmp_path), BACKBONES["vgg16"]

    def seconds(recipe, size=32, images=1000, cached=True):
        return measured.work(work_of(recipe, row, size, cached=cached), "float32", images).seconds

    block5 = replace(FINE_TUNE_RECIPES["block5"], top_epochs=0)
    shorter = replace(block5, epochs=block5.epochs // 2)
    assert seconds(block5, images=2000) == pytest.approx(2 * seconds(block5))
    assert seconds(block5) == pytest.approx(2 * seconds(shorter))
    assert 3 * seconds(block5) < seconds(block5, size=64) < 4 * seconds(block5)
    assert seconds(block5) < seconds(block5, cached=False) < seconds(FINE_TUNE_RECIPES["whole"])
    top_only = FINE_TUNE_RECIPES["top_only"]
    assert seconds(top_only) > 1.2 * seconds(replace(top_only, epochs=0))
    assert 0 < seconds(HEADS["ridge"]) < seconds(HEADS["linear"]) < seconds(HEADS["dense"])


def test_a_scheme_is_listed_with_its_own_cost_and_what_several_need_counts_once(headstart):
    _, output, _ = headstart("plan", "--preset", "full", "--precision", "float32")
    table = output.partition("scheme ")[2]
    assert re.search(r"head:linear +imagenet +\d+ px +0 +–", table)
    assert re.search(r"fine-tune:block5 +imagenet +128 px +0 +\d+ \w+ \d+ \w+ +\d+ \w+", table)
    _, tuned, _ = headstart("plan", "--preset", "full", "--precision", "float32", "--seeds", "0,1")
    first, second = re.findall(r"tuned-head:linear +imagenet +128 px +[01] +\S+ +(\S.*)", tuned)
    assert first != second  # the sweep counts once


def test_a_file_of_another_size_makes_its_task_and_downstream_tasks_stale(little, headstart):
    path = only(little, "runs/*/model.keras")
    path.write_bytes(path.read_bytes()[:-1])
    result = states(headstart(*LITTLE)[1])
    assert {family for family, state in result.items() if state == "stale"} == {
        "TrainHead",
        "ScoreRun",
        "PlotRun",
        "CompareSchemes",
    }
    assert "model.keras: expected" in headstart(*LITTLE)[1]


def test_a_manifest_with_another_fingerprint_is_stale_and_the_field_is_named(little, headstart):
    _, output, _ = headstart(*LITTLE, "--seeds", "3")
    line = next(line for line in output.splitlines() if "CompareSchemes" in line)
    assert line.startswith("stale")
    assert line.endswith("runs.0.seed: 0, expected 3")


def test_a_task_without_a_manifest_is_missing_even_if_other_files_exist(little, headstart):
    only(little, "runs/*/manifest.json").unlink()
    assert states(headstart(*LITTLE)[1])["TrainHead"] == "missing"


def test_features_that_lost_a_shard_are_stale_and_unfinished_ones_are_missing(little, headstart):
    section = next(
        path.parent for path in little.glob("features/*/*/shard-00000.h5") if is_of_head(path.parent)
    )
    only(little, "runs/*/manifest.json").unlink()
    (section / "shard-00000.h5").unlink()
    assert states(headstart(*LITTLE)[1])["ExtractFeatures"] == "stale"
    (section / "manifest.json").unlink()
    assert states(headstart(*LITTLE)[1])["ExtractFeatures"] == "missing"


def test_a_missing_result_that_nothing_needs_is_not_run(little, headstart):
    shutil.rmtree(only(little, "raw/weights/*"))
    _, output, _ = headstart(*LITTLE)
    line = next(line for line in output.splitlines() if "MakeWeights" in line)
    assert line.startswith("missing")
    assert "not needed" in line
    assert "0 of 7 tasks to run" in output


def test_estimated_time_scales_with_images_and_epochs(little, headstart):
    costs = only(little, "runs/*/costs.json")
    recipe = only(little, "runs/*/recipe.json")
    n_train = json.loads(recipe.read_text())["n_train"]
    values = json.loads(costs.read_text()) | {"train_seconds": 1 + n_train * 2, "bytes": 3_000_000}
    costs.write_text(json.dumps(values | {"stages": {"start": 1}}))
    _, output, _ = headstart(*LITTLE, "--subset", "1000")
    line = next(line for line in output.splitlines() if "TrainHead" in line)
    assert "about 23 min 21 s, about 3.0 MB" in line  # 700 images twice at 1 s each, and the start


def test_estimated_time_of_features_scales_with_images(little, headstart):
    for path in little.glob("features/*/*/costs.json"):
        costs = read_sealed(path)
        publish_sealed(path, costs | {"images_per_second": 1.0, "seconds": costs["images"] + 5})
    _, output, _ = headstart(*LITTLE, "--subset", "1000")
    line = next(line for line in output.splitlines() if "ExtractFeatures" in line)
    assert "about 16 min 45 s" in line  # 1,000 s and a start of 5 s


def test_measurements_on_another_processor_are_ignored(little, monkeypatch):
    assert Measurements(little).sections
    assert Measurements(little).runs
    machine = pipeline.machine.describe() | {"processor": "another"}
    monkeypatch.setattr("pipeline.machine.describe", lambda: machine)
    assert not Measurements(little).sections
    assert not Measurements(little).runs


def test_malformed_costs_are_ignored(little, headstart):
    for number, path in enumerate(sorted(little.glob("*/*/**/costs.json"))):
        path.write_text(("[]", "{", '{"processor": 1}')[number % 3])
    assert headstart(*LITTLE, "--subset", "1000")[0] == 0


def is_of_head(section) -> bool:
    """Return whether a section holds the averaged layer that the head reads."""
    fingerprint = json.loads((section / "manifest.json").read_text())["fingerprint"]
    return fingerprint["pooling"] == "average"


@pytest.mark.parametrize("arguments", [["plan"], ["why", "TrainHead"], ["clean"]])
def test_plan_why_and_clean_load_no_numerical_library(call, arguments):
    code = (
        "import sys; from tasks.commands.main import main\n"
        f"assert main({arguments}) == 0\n"
        f"sys.exit(str([n for n in {HEAVY} if n in sys.modules]).strip('[]') or 0)"
    )
    done = call("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["plan", "why TrainHead"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["--dataset", "mnist"], "unknown dataset 'mnist'"),
        (["--seeds", "a"], "--seeds: expected whole numbers separated by commas, received 'a'"),
        (["--subset", "7"], "subset of cifar10-sample: expected 0"),
        (["--precision", "int8"], "unknown precision 'int8'"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(headstart, command, arguments, message):
    code, output, errors = headstart(*command.split(), *arguments)
    assert (code, output) == (2, "")
    assert message in errors
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["plan", "why", "verify", "clean"])
def test_every_command_has_help_with_examples(call, command):
    done = call("-m", "tasks.commands.main", command, "--help")
    assert done.returncode == 0
    assert f"headstart {command}" in done.stdout.partition("examples:")[2]
