"""The command that reproduces a stored run, derived from the run's recipe."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pipeline.backbones.table import BACKBONES, choose_weights, weights_name
from pipeline.datasets.folders import FOLDER_IMAGE_SIZE
from pipeline.datasets.table import PICTURES, SMALLEST_IMAGE
from pipeline.errors import HeadstartError
from pipeline.features.sections import engine_of, network_size
from pipeline.recipes.named import find_named, named_recipe
from pipeline.recipes.settings import as_dict
from pipeline.runs.result import RunResult, read_run
from pipeline.storage import layout
from pipeline.storage.fingerprint import key_of
from tasks.configuration import data_folder
from tasks.recipes import recipes_folder
from tasks.task import command_of
from tasks.training import training_task

ALWAYS_INCLUDED = ("recipe", "dataset", "weights")


def command_of_run(recipe: dict[str, Any]) -> str:
    """Return the command that reproduces a run, or "" if its scheme or its weights are unknown here.

    The command includes only settings that differ from the recipe's defaults.
    """
    fingerprint = recipe["fingerprint"]
    try:
        scheme, name = find_named(recipes_folder(), fingerprint["scheme"])
        defaults = as_dict(named_recipe(recipes_folder(), scheme, name))
        task, data = training_task(scheme.name), fingerprint["dataset"]
        values: dict[str, Any] = {"recipe": name, "dataset": dataset_text(data["name"])}
        values |= {"subset": data["subset"], "split_seed": data["split"]["seed"]}
        values |= {"layout": data.get("layout", "auto")}
        own_size = FOLDER_IMAGE_SIZE if data.get("fitting") else SMALLEST_IMAGE
        features = fingerprint.get("features")
        network = network_size(data, None, BACKBONES[features["backbone"]] if features else None)
        sizes = {"image_size": (data["image_size"], own_size)}
        sizes |= {"input_size": (fingerprint["input_size"], network)}
        values |= {key: None if size == default else size for key, (size, default) in sizes.items()}
        if "weights" in scheme.needs:
            base = fingerprint["features"]
            values |= {"backbone": base["backbone"], "weights": weights_name(base["weights"])}
            # Random weights with seed 7 are stored as random7.
            values["weights"] = re.sub(r"^random(\d+)$", r"random:\1", values["weights"])
            if choose_weights(values["weights"], base["backbone"]).identity != base["weights"]:
                return ""  # weights from a file or URL whose location was not stored
            if scheme.reads_layers:
                values["storage"] = base["storage"]
            values["engine"] = engine_of(base)
        values |= {"seed": recipe["seed"], "precision": recipe["precision"]}
    except (HeadstartError, KeyError, TypeError, AttributeError):
        return ""
    values |= fingerprint["settings"]
    return command_of(f"train {scheme.name}", task, values, defaults | dict.fromkeys(ALWAYS_INCLUDED))


def dataset_text(name: str) -> str:
    """Return the --dataset value for a data set's name; of a path, only the last part is stored."""
    return name.replace(":", ":path/to/", 1) if name.startswith(PICTURES) else name


def write_with_commands(
    folder: Path,
    runs: Sequence[RunResult | Path],
    title: str,
    up_to_date: Collection[str] = (),
    **more: Any,
) -> tuple[str, list[str]]:
    """Write a comparison of runs or run folders, with commands to reproduce them; see write_comparison."""
    from pipeline.report.comparison_report import write_comparison  # loads Matplotlib
    from pipeline.report.page.content import PageSources

    results = [read_run(run) if isinstance(run, Path) else run for run in runs]
    commands = {run.folder.name: command_of_run(run.recipe) for run in results}
    stores = dataset_folders(data_folder(), [run.recipe for run in results])
    sources = PageSources(title, results, stores=stores, commands=commands, **more)
    return write_comparison(folder, sources, up_to_date)


def dataset_folders(data: Path, recipes: list[dict[str, Any]]) -> dict[str, Path]:
    """Return the folders of the prepared data sets that recipes used, by key, if they still exist."""
    datasets = (recipe["fingerprint"].get("dataset") for recipe in recipes)
    keys = sorted({key_of(dataset) for dataset in datasets if dataset})
    folders = {folder.name.rpartition("-")[2]: folder for folder in layout.finished(data, "dataset")}
    return {key: folders[key] for key in keys if key in folders}
