"""A search from its first trial to its folder: the study, its table and pictures, a recipe with a name."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from pipeline import machine
from pipeline.children import run_in_child
from pipeline.formatting import format_interval
from pipeline.progress import Progress, silent
from pipeline.recipes.named import publish_recipe, settings_beside
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.settings import override, plain
from pipeline.recipes.space import Axis, Range, read_axes
from pipeline.report import studies
from pipeline.report.drawing import publish_figure
from pipeline.results.replicates import mean_interval
from pipeline.results.scores import wilson_interval
from pipeline.runs.spec import RunInputs, RunSpec
from pipeline.storage import publishing
from pipeline.storage.fingerprint import key_of
from pipeline.tuning.study import (
    AGAIN,
    FILE,
    REASON,
    Budget,
    best_trial,
    finished,
    note_of,
    opened,
    prepare_study,
    put_aside_if_damaged,
    run_trials,
    seal,
    seconds_of,
    settings_of,
)
from pipeline.tuning.trial import recipe_of

TABLE, PAGE, CHOICE = "trials.csv", "study.md", "choice.json"
PICTURES = ("history.png", "importance.png", "parallel.png")
LEAST_FOR_IMPORTANCE = 4  # complete trials
TRIAL = "pipeline.tuning.trial"  # the module that runs in a child


@dataclass(frozen=True)
class SearchSpec:
    """A search: the training that it starts from, the axes of its space, and when it ends.

    name is what the chosen recipe is called, confirmations how many fresh seeds it is trained again with,
    jobs how many trials run at a time.
    """

    run: RunSpec
    space: dict[str, Any]
    name: str
    budget: Budget
    confirmations: int
    jobs: int


def search(
    spec: SearchSpec,
    inputs: RunInputs,
    *,
    folder: Path,
    recipes: Path,
    n_val: int,
    caption: str,
    progress: Progress,
) -> dict[str, Any]:
    """Run or resume the study of spec in folder; publish it and its best setting; return the choice.

    recipes is the folder of named recipes, to which the choice is added. Every training sees train and val
    alone, in a process of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe, path = recipe_of(spec.run), folder / FILE
    axes = read_axes(recipe, spec.space)
    put_aside_if_damaged(path)
    study = opened(path)
    prepare_study(study, recipe, axes)
    seal(path)
    shared = {"spec": spec.run.as_json(), "space": spec.space, "inputs": asdict(inputs), "study": str(path)}

    def one(draw: int) -> None:
        shown = _behind(f"trial {draw + 1}: ", progress) if spec.jobs == 1 else silent
        run_in_child(f"{TRIAL}:run_trial", {**shared, "draw": draw}, shown)
        if spec.jobs > 1:  # reports of several trainings would hide each other
            progress(f"trials, {spec.jobs} at a time", draw + 1, spec.budget.trials, "trials")

    run_trials(path, spec.budget, one, jobs=spec.jobs)
    chosen = settings_of(recipe, best_trial(study).params)
    again = _trained_again(study, path, spec, chosen, inputs, progress)
    table = studies.trial_table(finished(study), list(axes), n_val, REASON)
    choice = _choice(spec, study, chosen, again, n_val)
    words = f"{caption} · {len(table)} trials in {seconds_of(study) / 60:.0f} minutes, judged on val"
    _publish(folder, spec, study, axes, table, choice, words)
    row = spec.run.scheme_row.recipes[spec.run.row]
    settings = settings_beside(override(recipe, choice["settings"]), row)
    origin = {"study": folder.name, "val_accuracy": choice["val_accuracy"], "trial": choice["trial"]}
    facts = {"study": publishing.sha256_of(folder / publishing.MANIFEST)}
    publish_recipe(recipes / spec.name, spec.run.scheme, row.name, settings, origin, facts)
    return choice


def _behind(words: str, progress: Progress) -> Progress:
    """Return a progress whose stages begin with words."""
    return lambda stage, done, total, unit: progress(words + stage, done, total, unit)


def _trained_again(
    study: optuna.Study,
    path: Path,
    spec: SearchSpec,
    chosen: dict[str, Any],
    inputs: RunInputs,
    progress: Progress,
) -> dict[str, Any] | None:
    """Return val accuracies of the recipe as it is and of the chosen settings, by seeds not used before.

    They are kept in the study. None where no confirmations are asked for.
    """
    count = spec.confirmations
    if not count:
        return None
    seeds = [spec.run.seed + number for number in range(1, count + 1)]
    found: dict[str, list[float]] = {"as_it_is": [], "chosen": []}
    for number, seed in enumerate(seeds):
        for which, more in (("as_it_is", {}), ("chosen", plain(chosen))):
            run = spec.run.with_settings(more, seed)
            key = f"confirmed:{key_of(run.settings)}:{seed}"
            if key not in study.user_attrs:
                arguments = {"spec": run.as_json(), "inputs": asdict(inputs)}
                shown = _behind(f"again {number + 1}/{count}: ", progress)
                study.set_user_attr(key, float(run_in_child(f"{TRIAL}:run_again", arguments, shown)))
                seal(path)
            found[which].append(study.user_attrs[key])
    apart = [b - a for a, b in zip(found["as_it_is"], found["chosen"], strict=True)]
    mean, low, high = mean_interval(apart)
    interval = {"low": low, "high": high} if count > 1 else {"low": None, "high": None}
    return {"seeds": seeds, **found, "difference": {"mean": mean, **interval}}


def _choice(
    spec: SearchSpec, study: optuna.Study, chosen: dict[str, Any], again: dict[str, Any] | None, n_val: int
) -> dict[str, Any]:
    """Return what choice.json holds: the best trial, the recipe as it is, both trained again, and how."""
    best, trials = best_trial(study), finished(study)
    first = next((one for one in trials if one.number == 0 or one.user_attrs.get(AGAIN) == 0), None)
    return {
        "recipe": spec.name,
        "scheme": spec.run.name,
        "settings": plain(chosen),
        "trial": best.number,
        "val_accuracy": best.value,
        "val_accuracy_interval": wilson_interval(round(cast(float, best.value) * n_val), n_val),
        "as_it_is": first.value if first and first.state == TrialState.COMPLETE else None,
        "again": again,
        "trials": dict(Counter(studies.state_of(trial) for trial in trials)),
        "seconds": round(seconds_of(study), 1),
        "jobs": spec.jobs,
        "versions": {**machine.versions(), "optuna": optuna.__version__},
        "machine": machine.describe(),
    }


def _publish(
    folder: Path,
    spec: SearchSpec,
    study: optuna.Study,
    axes: dict[str, Axis],
    table: pd.DataFrame,
    choice: dict[str, Any],
    caption: str,
) -> None:
    names = list(axes)
    logs = [name for name, axis in axes.items() if isinstance(axis, Range) and axis.log]
    sentences = [*_sentences(choice), f"{caption}."]
    history, importance, parallel = (folder / name for name in PICTURES)
    publishing.publish_csv(folder / TABLE, table)
    page = studies.study_markdown(table, names, sentences, f"Search from {spec.run.name}")
    publishing.publish_text(folder / PAGE, page)
    publish_figure(history, studies.draw_history, table, caption)
    publish_figure(importance, studies.draw_importance, importance_of(study), caption)
    publish_figure(parallel, studies.draw_parallel, table, names, logs, caption)
    publishing.publish_json(folder / CHOICE, choice)
    files = [FILE, note_of(folder / FILE).name, TABLE, PAGE, *PICTURES, CHOICE]
    publishing.publish_manifest(folder, spec.run.fingerprint, files)


def importance_of(study: optuna.Study) -> dict[str, float]:
    """Return the share of the variance of val accuracy that each setting explains; {} where it is unknown.

    Functional ANOVA of a random forest (Hutter, Hoos & Leyton-Brown 2014), over complete trials.
    """
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if len(complete) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


def _sentences(choice: dict[str, Any]) -> list[str]:
    low, high = choice["val_accuracy_interval"]
    counts = choice["trials"]
    lines = [
        f"Trial {choice['trial']} is chosen, with {format_interval(choice['val_accuracy'], low, high)} "
        f"on val (its interval is Wilson's); {counts.get(studies.COMPLETE, 0)} trials came to their end, "
        f"{counts.get(studies.PRUNED, 0)} were ended early."
    ]
    if choice["as_it_is"] is not None:
        lines[0] += f" The recipe as it is reached {100 * choice['as_it_is']:.1f} %."
    if choice["again"]:
        lines.append(_again_sentence(choice["again"]))
    task = SCHEMES[choice["scheme"].partition(":")[0]].task
    return [*lines, f"`luigi --module tasks {task} --recipe {choice['recipe']}` trains what was chosen."]


def _again_sentence(again: dict[str, Any]) -> str:
    means = {name: 100 * sum(again[name]) / len(again[name]) for name in ("chosen", "as_it_is")}
    difference = again["difference"]
    interval = ""
    if difference["low"] is not None:
        interval = f" (95 % over seeds: {100 * difference['low']:+.1f} … {100 * difference['high']:+.1f})"
    return (
        f"Trained again with the fresh seeds {', '.join(map(str, again['seeds']))}, the choice reaches "
        f"{means['chosen']:.1f} % on val and the recipe as it is {means['as_it_is']:.1f} %: "
        f"{100 * difference['mean']:+.1f} points{interval}."
    )
