"""Run a search and publish its folder: the study, a table, plots, and the chosen recipe."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from pipeline import machine
from pipeline.children import run_in_child
from pipeline.formatting import format_interval
from pipeline.progress import Progress, silent
from pipeline.recipes.named import changed_settings, publish_recipe
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.settings import override, plain
from pipeline.recipes.space import read_axes
from pipeline.report import studies as report
from pipeline.results.replicates import mean_interval
from pipeline.results.scores import wilson_interval
from pipeline.runs.spec import RunSpec
from pipeline.storage import publishing
from pipeline.storage.fingerprint import key_of
from pipeline.tuning import study as studies

STUDY_CHOICE = "choice.json"
MIN_TRIALS_FOR_IMPORTANCE = 4  # completed trials
TRIAL_MODULE = "pipeline.tuning.trial"  # runs in a child process


@dataclass(frozen=True)
class SearchSpec:
    """A search: the run that it starts from, the axes of its space, and its limits.

    name is the name of the resulting recipe. trials and minutes (0: no limit) are those of the whole study,
    jobs the number of trials that run at a time, confirmations that of new seeds to retrain the recipe with.
    """

    run: RunSpec
    space: dict[str, Any]
    name: str
    trials: int
    minutes: float
    confirmations: int
    jobs: int


def search(
    spec: SearchSpec,
    inputs: dict[str, Path],
    *,
    folder: Path,
    recipes: Path,
    n_val: int,
    caption: str,
    progress: Progress,
) -> dict[str, Any]:
    """Run or resume the study of spec in folder; publish it and the best settings; return the choice.

    recipes is the folder of named recipes, to which the choice is added. Every training uses train and val
    only and runs in its own process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe, path = spec.run.load_recipe(), folder / studies.STUDY_LOG
    axes = read_axes(recipe, spec.space)
    studies.rename_if_damaged(path)
    study = studies.open_study(path)
    studies.prepare_study(study, recipe, axes)
    studies.seal_study(path)
    shared = {"spec": spec.run.as_json(), "space": spec.space, "inputs": inputs, "study": str(path)}

    def run_one(draw: int) -> None:
        trial_progress = _prefixed(f"trial {draw + 1}: ", progress) if spec.jobs == 1 else silent
        run_in_child(f"{TRIAL_MODULE}:run_trial", {**shared, "draw": draw}, trial_progress)
        if spec.jobs > 1:  # progress of parallel trials would overlap
            progress(f"trials, {spec.jobs} at a time", draw + 1, spec.trials, "trials")

    studies.run_trials(path, run_one, trials=spec.trials, minutes=spec.minutes, jobs=spec.jobs)
    chosen = studies.settings_of(recipe, studies.best_trial(study).params)
    reruns = _confirm(study, path, spec, chosen, inputs, progress)
    table = report.trial_table(studies.finished_trials(study), list(axes), n_val)
    choice = _choice(spec, study, chosen, reruns, n_val)
    minutes = studies.seconds_of(study) / 60
    caption = f"{caption} · {len(table)} trials in {minutes:.0f} minutes, ranked on val"
    paragraphs = [f"# Search from {spec.run.name}", *_summary(choice)]
    files = report.publish_study(folder, table, [*axes], importance_of(study), paragraphs, caption)
    publishing.publish_json(folder / STUDY_CHOICE, choice)
    files += [path.name, studies.seal_path(path).name, STUDY_CHOICE]
    publishing.publish_manifest(folder, spec.run.fingerprint, files)
    base_recipe = spec.run.scheme_row.recipes[spec.run.row]
    settings = changed_settings(override(recipe, choice["settings"]), base_recipe)
    origin = {"study": folder.name, "val_accuracy": choice["val_accuracy"], "trial": choice["trial"]}
    facts = {"study": publishing.sha256_of(folder / publishing.MANIFEST)}
    publish_recipe(recipes / spec.name, spec.run.scheme, base_recipe.name, settings, origin, facts)
    return choice


def _prefixed(prefix: str, progress: Progress) -> Progress:
    """Return a progress callback that puts prefix before each stage."""
    return lambda stage, done, total, unit: progress(prefix + stage, done, total, unit)


def _confirm(
    study: optuna.Study,
    path: Path,
    spec: SearchSpec,
    chosen: dict[str, Any],
    inputs: dict[str, Path],
    progress: Progress,
) -> dict[str, Any] | None:
    """Return val accuracies of the unchanged recipe and of the chosen settings with new seeds.

    Finished ones are stored in the study. Return None if spec asks for no confirmations.
    """
    if not (count := spec.confirmations):
        return None
    seeds = [spec.run.seed + number for number in range(1, count + 1)]
    accuracies: dict[str, list[float]] = {"as_it_is": [], "chosen": []}
    for number, seed in enumerate(seeds):
        for which, changes in (("as_it_is", {}), ("chosen", plain(chosen))):
            run = spec.run.with_settings(changes, seed)
            key = f"confirmed:{key_of(run.settings)}:{seed}"
            if key not in study.user_attrs:
                arguments = {"spec": run.as_json(), "inputs": inputs}
                run_progress = _prefixed(f"confirmation {number + 1}/{count}: ", progress)
                accuracy = run_in_child(f"{TRIAL_MODULE}:val_accuracy", arguments, run_progress)
                study.set_user_attr(key, float(accuracy))
                studies.seal_study(path)
            accuracies[which].append(study.user_attrs[key])
    differences = [b - a for a, b in zip(accuracies["as_it_is"], accuracies["chosen"], strict=True)]
    mean, low, high = mean_interval(differences)
    interval = {"low": low, "high": high} if count > 1 else {"low": None, "high": None}
    return {"seeds": seeds, **accuracies, "difference": {"mean": mean, **interval}}


def _choice(
    spec: SearchSpec, study: optuna.Study, chosen: dict[str, Any], reruns: dict[str, Any] | None, n_val: int
) -> dict[str, Any]:
    """Return the content of choice.json: the best trial, the unchanged recipe, reruns of both, and costs."""
    best, trials = studies.best_trial(study), studies.finished_trials(study)
    first = next((t for t in trials if t.number == 0 or t.user_attrs.get(studies.RETRY_OF) == 0), None)
    return {
        "recipe": spec.name,
        "scheme": spec.run.name,
        "settings": plain(chosen),
        "trial": best.number,
        "val_accuracy": best.value,
        "val_accuracy_interval": wilson_interval(round(cast(float, best.value) * n_val), n_val),
        "as_it_is": first.value if first and first.state == TrialState.COMPLETE else None,
        "again": reruns,
        "trials": dict(Counter(report.state_of(trial) for trial in trials)),
        "seconds": round(studies.seconds_of(study), 1),
        "jobs": spec.jobs,
        "versions": {**machine.versions(), "optuna": optuna.__version__},
        "machine": machine.describe(),
    }


def importance_of(study: optuna.Study) -> dict[str, float]:
    """Return the share of val accuracy's variance that each setting explains; {} for too few trials.

    Functional ANOVA of a random forest (Hutter, Hoos & Leyton-Brown 2014), over completed trials.
    """
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if len(complete) < MIN_TRIALS_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


def _summary(choice: dict[str, Any]) -> list[str]:
    counts = choice["trials"]
    interval = format_interval(choice["val_accuracy"], *choice["val_accuracy_interval"])
    lines = [
        f"Trial {choice['trial']} was chosen with {interval} "
        f"on val (Wilson interval); {counts.get(report.COMPLETE, 0)} trials completed, "
        f"{counts.get(report.PRUNED, 0)} were pruned."
    ]
    if choice["as_it_is"] is not None:
        lines[0] += f" The unchanged recipe reached {100 * choice['as_it_is']:.1f} %."
    if reruns := choice["again"]:
        chosen, unchanged = (100 * fmean(reruns[name]) for name in ("chosen", "as_it_is"))
        gain = {
            name: f"{100 * value:+.1f}" for name, value in reruns["difference"].items() if value is not None
        }
        ends = f" (95 % over seeds: {gain['low']} … {gain['high']})" if "low" in gain else ""
        lines.append(
            f"Retrained with the new seeds {', '.join(map(str, reruns['seeds']))}, the chosen settings reach "
            f"{chosen:.1f} % on val and the unchanged recipe {unchanged:.1f} %: {gain['mean']} points{ends}."
        )
    task = SCHEMES[choice["scheme"].partition(":")[0]].task
    return [*lines, f"`luigi --module tasks {task} --recipe {choice['recipe']}` trains the chosen recipe."]
