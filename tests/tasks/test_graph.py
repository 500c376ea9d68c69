"""The graph on a hundred digits finishes and makes only what is needed."""

from __future__ import annotations

import csv
import dataclasses
import json
import resource
import shutil

import luigi
import pytest
from small_graphs import build, hits_of

from pipeline.recipes.presets import PRESETS, Plan, Preset
from pipeline.report.table import PLOTS
from pipeline.results.comparison import COMPARISON_COLUMNS
from pipeline.results.paired import DIFFERENCE_COLUMNS
from pipeline.results.table import SCORES
from pipeline.storage.publishing import read_manifest
from tasks import CompareSchemes, ExtractFeatures, PlotRun, ScoreRun, TrainFromScratch, TrainHead

TINY_NET = {"conv_blocks": "conv - maxpool", "filters": [4], "units": [8], "epochs": 2, "batch_size": 16}
TINY = Preset(
    name="tiny",
    title="A hundred digits",
    dataset="digits",
    subset=100,
    weights="random",
    seeds=(0, 1),
    plans=(
        Plan("head:linear", {"epochs": 2}),
        Plan("fine-tune:block5", {"epochs": 1, "top_epochs": 1, "units": [8]}),
        Plan("from-scratch:lesson", TINY_NET),
    ),
)
SCRATCH = Preset("scratch", "From scratch only", "digits", (TINY.plans[2],), 100, "random")


@pytest.fixture
def presets(monkeypatch):
    for preset in (TINY, SCRATCH):
        monkeypatch.setitem(PRESETS, preset.name, preset)


@pytest.fixture(scope="module")
def made_scratch(tmp_path_factory):
    """The data folder of a finished `scratch` comparison, which tests copy and do not change."""
    folder = tmp_path_factory.mktemp("finished") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_DATA_DIR", str(folder))
        patch.setitem(PRESETS, "scratch", SCRATCH)
        assert build(CompareSchemes(preset="scratch"))
    return folder


@pytest.fixture
def finished(presets, made_scratch, data_folder):
    """A finished `scratch` comparison in the test's data folder."""
    shutil.copytree(made_scratch, data_folder)
    luigi.task_register.Register.clear_instance_cache()
    return CompareSchemes(preset="scratch")


def stamps(folder, pattern: str = "*") -> dict:
    """Return when each file in a folder was last written, without locks."""
    files = (path for path in folder.rglob(pattern) if path.is_file() and ".locks" not in path.parts)
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in files}


@pytest.mark.slow
def test_a_comparison_has_all_schemes_and_seeds_of_its_preset(presets, data_folder):
    assert build(CompareSchemes(preset="tiny"), workers=2)
    with (data_folder / "reports" / "tiny" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0])[: len(COMPARISON_COLUMNS)] == COMPARISON_COLUMNS
    schemes = ["head:linear", "fine-tune:block5", "from-scratch:lesson"]
    assert [(row["scheme"], row["seed"]) for row in rows] == [(s, seed) for s in schemes for seed in "01"]
    assert {row["weights"] for row in rows} == {"random", "none"}
    hits = [hits_of(run.folder) for run in CompareSchemes(preset="tiny").runs]
    assert [float(row["accuracy"]) for row in rows] == pytest.approx([right / n for right, n in hits])
    with (data_folder / "reports" / "tiny" / "differences.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert tuple(pairs[0]) == DIFFERENCE_COLUMNS
    assert [(pair["seeds_a"], pair["seeds_b"]) for pair in pairs] == [("2", "2")] * 3
    assert len(list((data_folder / "features").iterdir())) == 1  # one pass serves heads and fine-tuning


def test_a_finished_graph_computes_nothing_and_only_a_deleted_plot_is_redrawn(finished, data_folder):
    root = finished
    before = stamps(data_folder)
    assert build(root)
    assert stamps(data_folder) == before

    plots = root.results[0][1].folder
    (plots / "confusion_matrix.png").unlink()
    assert not root.complete()
    assert build(root)
    changed = {str(path) for path, stamp in stamps(data_folder).items() if before[path] != stamp}
    redrawn = str((plots / "confusion_matrix.png").relative_to(data_folder))
    manifest = str((plots / "manifest.json").relative_to(data_folder))
    assert changed == {redrawn, manifest}

    (root.folder / "accuracy_against_cost.png").unlink()
    before = stamps(data_folder, "*.png")
    assert build(root)
    drawn = stamps(data_folder, "*.png")
    assert {path.name for path in drawn if drawn[path] != before.get(path)} == {"accuracy_against_cost.png"}


def test_a_comparison_of_one_run_reports_that_nothing_was_tested(finished):
    folder = finished.folder
    assert (folder / "differences.csv").read_text().splitlines() == [",".join(DIFFERENCE_COLUMNS)]
    assert "there are no differences to test" in (folder / "comparison.txt").read_text()
    assert "differences.csv" in set(read_manifest(folder).files)


@pytest.mark.slow
def test_more_epochs_retrain_only_that_scheme(finished, data_folder):
    before = stamps(data_folder)
    assert build(tiny_scratch(epochs=3))
    after = stamps(data_folder)
    assert {path: after[path] for path in before} == before
    assert len(list((data_folder / "runs").iterdir())) == 2


@pytest.mark.slow
def test_a_deleted_run_is_trained_again_with_the_same_numbers(finished, data_folder):
    root = finished
    run = root.results[0][0].run_task
    numbers = (run.folder / "history.csv").read_text().splitlines()[-1].split(",")[:6]
    for path in run.folder.iterdir():
        path.unlink()
    assert not root.complete()
    assert build(root)
    again = (run.folder / "history.csv").read_text().splitlines()[-1].split(",")[:6]
    assert again == numbers  # the same command gives the same numbers


def test_a_new_plot_or_score_retrains_nothing(finished, data_folder, monkeypatch):
    before = stamps(data_folder)
    monkeypatch.setitem(PLOTS, "another", PLOTS["confusion_matrix"])
    monkeypatch.setitem(SCORES, "another", dataclasses.replace(SCORES["macro_f1"], name="another"))
    luigi.task_register.Register.clear_instance_cache()
    shared = {"scheme": "from-scratch:lesson", "settings": TINY_NET, "dataset": "digits", "subset": 100}
    plots, scores = PlotRun(weights="random", **shared), ScoreRun(weights="random", **shared)
    assert not plots.complete()
    assert not scores.complete()
    assert build(plots, scores)
    changed = {path.name for path, stamp in stamps(data_folder).items() if before.get(path) != stamp}
    assert changed == {"another.png", "metrics.csv", "metrics.md", "manifest.json"}


def test_a_default_setting_given_explicitly_is_the_same_run():
    default = TrainHead(dataset="digits", weights="random")
    explicit = TrainHead(dataset="digits", weights="random", epochs=default.resolved.epochs)
    assert default.folder == explicit.folder
    assert TrainHead(dataset="digits", weights="random", epochs=7).folder != default.folder


def test_weights_that_equal_those_of_a_plan_are_compared_once():
    default, random = CompareSchemes(preset="demo"), CompareSchemes(preset="demo", weights="random")
    assert len(default.results) == len(PRESETS["demo"].plans)
    assert len(random.results) == len({plan.scheme for plan in PRESETS["demo"].plans})


def test_a_parameter_that_cannot_change_a_result_is_not_in_its_path():
    one = ExtractFeatures(dataset="digits", weights="random", batch_size=64)
    assert one.folder == ExtractFeatures(dataset="digits", weights="random", batch_size=128).folder


def test_the_extraction_with_the_most_layers_runs_first_and_serves_the_others():
    wide = ExtractFeatures(dataset="digits", weights="random", layers="block4_pool,block5_pool")
    narrow = ExtractFeatures(dataset="digits", weights="random", layers="block5_pool")
    assert wide.priority > narrow.priority
    assert wide.folder == narrow.folder


@pytest.mark.slow
def test_a_corrupt_result_is_not_complete_and_is_replaced(finished):
    task = finished.results[0][0].run_task
    before = hits_of(task.folder)
    (task.folder / "predictions.h5").write_bytes(b"")
    assert not task.complete()
    assert build(task)
    assert hits_of(task.folder) == before


def test_the_recipe_file_of_a_run_has_everything_to_reproduce_it(finished):
    task = finished.results[0][0].run_task
    recipe = json.loads((task.folder / "recipe.json").read_text())
    assert recipe["settings"]["filters"] == [4]
    assert recipe["seed"] == 0
    assert {"python", "tensorflow", "keras", "numpy"} <= set(recipe["versions"])
    assert recipe["machine"]["precision"] in ("float32", "bfloat16")
    assert recipe["fingerprint"]["dataset"]["split"]["seed"] == 0


def test_a_run_of_a_finished_graph_takes_under_a_second(finished, call, tmp_path):
    (tmp_path / "small_preset.py").write_text(
        "from pipeline.recipes.presets import PRESETS, Plan, Preset\n"
        f"PRESETS['scratch'] = Preset('scratch', 'From scratch only', 'digits', "
        f"(Plan('from-scratch:lesson', {TINY_NET!r}),), 100, 'random')\n"
    )
    extension = {"HEADSTART_EXTENSIONS": "small_preset", "PYTHONPATH": str(tmp_path)}
    extension["COVERAGE_PROCESS_CONFIG"] = ""  # coverage takes a third of the time
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = call("-m", "tasks.commands.main", "run", "--preset", "scratch", **extension)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "from-scratch:lesson" in done.stdout
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu_seconds < 1.0  # CPU time, because wall-clock time depends on other processes


def tiny_scratch(**changes) -> TrainFromScratch:
    return TrainFromScratch(dataset="digits", subset=100, **{**TINY_NET, **changes})


@pytest.mark.parametrize(
    ("options", "schemes"),
    [
        ({"only": "head:*"}, {"head:linear", "head:dense"}),
        ({"only": "tuned-*,fine-*"}, {"tuned-head:linear", "fine-tune:block5"}),
        ({"schemes": "head:knn,from-scratch:fast"}, {"head:knn", "from-scratch:fast"}),
        ({"schemes": "head:knn,from-scratch:fast", "only": "from*"}, {"from-scratch:fast"}),
    ],
)
def test_a_comparison_has_the_schemes_that_were_asked_for_in_a_folder_of_its_own(options, schemes):
    task, preset = CompareSchemes(preset="demo", **options), CompareSchemes(preset="demo")
    assert {f"{run.scheme.name}:{run.recipe}" for run in task.runs} == schemes
    assert task.folder != preset.folder and task.title != preset.title


def test_reports_of_different_data_have_different_folders_and_titles(tmp_path):
    for name in ("a/photos", "b/photos"):
        for label in ("rose", "tulip"):
            (tmp_path / name / label).mkdir(parents=True)
            (tmp_path / name / label / "1.png").write_bytes(label.encode())
    changes = [
        {},
        {"split_seed": 1},
        {"split_seed": 2},
        {"subset": 1000},
        {"subset": 1000, "split_seed": 1},
        *({"dataset": f"folder:{tmp_path / name}"} for name in ("a/photos", "b/photos")),
    ]
    tasks = [CompareSchemes(preset="demo", **change) for change in changes]
    assert len({task.folder for task in tasks}) == len({task.title for task in tasks}) == len(changes)
