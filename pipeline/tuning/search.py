"""A search from its first trial to its folder: the study, its table and pictures, a recipe with a name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipeline import machine
from pipeline.children import run_in_child
from pipeline.fingerprint import key_of
from pipeline.progress import Progress, silent
from pipeline.publishing import MANIFEST, publish_json, publish_manifest, publish_text, published, sha256_of
from pipeline.results.figure import publish_figure
from pipeline.results.replicates import mean_interval
from pipeline.results.scores import shown_interval, wilson_interval
from pipeline.results.studies import (
    COMPLETE,
    PRUNED,
    draw_history,
    draw_importance,
    draw_parallel,
    state_of,
    study_markdown,
    trial_table,
)
from pipeline.training.named import publish_recipe, settings_beside
from pipeline.training.schemes import SCHEMES
from pipeline.training.settings import override, plain
from pipeline.tuning.seals import keep, kept, put_aside_if_damaged
from pipeline.tuning.space import Axis, Range, read_axes
from pipeline.tuning.study import (
    AGAIN,
    FILE,
    REASON,
    Budget,
    best_trial,
    finished,
    opened,
    prepare_study,
    run_trials,
    seconds_of,
    settings_of,
)
from pipeline.tuning.trial import recipe_of, row_of, run_again, run_trial

if TYPE_CHECKING:
    import optuna
    import pandas as pd

TABLE, PAGE, CHOICE = "trials.csv", "study.md", "choice.json"
PICTURES = ("history.png", "importance.png", "parallel.png")
LEAST_FOR_IMPORTANCE = 4  # complete trials
CONFIRMED = "confirmed"


@dataclass(frozen=True)
class Wanted:
    """What a search is to be: its trials, and the seeds with which its choice is trained again."""

    name: str
    budget: Budget
    confirmations: int
    jobs: int


def search(
    order: dict[str, Any],
    wanted: Wanted,
    *,
    folder: Path,
    recipes: Path,
    inputs: dict[str, str],
    n_val: int,
    caption: str,
    progress: Progress,
) -> dict[str, Any]:
    """Run or go on with the study of order in folder; publish it and its best setting; return the choice.

    order has scheme, row, settings, seed, precision, weights, backbone, space and the whole fingerprint;
    inputs are the folders that a training reads; recipes is the folder of named recipes, in which the choice
    gets wanted.name. Every training sees train and val alone, in a process of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe, path = recipe_of(order), folder / FILE
    axes = read_axes(recipe, order["space"])
    put_aside_if_damaged(path)
    study = opened(path)
    prepare_study(study, recipe, axes)

    def one(draw: int) -> None:
        def tell(stage: str, done: int, total: int, unit: str) -> None:
            progress(f"trial {draw + 1}: {stage}", done, total, unit)

        arguments = {"order": order, "study": str(path), "draw": draw, **inputs}
        run_in_child(run_trial, arguments, tell if wanted.jobs == 1 else silent)
        if wanted.jobs > 1:  # reports of several trainings would hide each other
            progress(f"trials, {wanted.jobs} at a time", draw + 1, wanted.budget.trials, "trials")

    run_trials(path, wanted.budget, one, jobs=wanted.jobs)
    chosen = settings_of(recipe, best_trial(study).params)
    again = _trained_again(study, order, chosen, wanted.confirmations, inputs, progress)
    trials = finished(study)
    table = trial_table(trials, list(axes), n_val, REASON)
    choice = _choice(order, wanted, study, chosen, again, n_val)
    words = f"{caption} · {len(trials)} trials in {seconds_of(study) / 60:.0f} minutes, judged on val"
    _publish(folder, order, study, axes, table, choice, words)
    _publish_name(recipes, folder, order, recipe, choice)
    return choice


def _trained_again(
    study: optuna.Study,
    order: dict[str, Any],
    chosen: dict[str, Any],
    count: int,
    inputs: dict[str, Any],
    progress: Progress,
) -> dict[str, Any] | None:
    """Return val accuracies of the recipe as it is and of the chosen settings, by seeds not used before.

    What was trained again before is kept in the study. None where count is 0.
    """
    if not count:
        return None
    seeds = [order["seed"] + number for number in range(1, count + 1)]
    found: dict[str, list[float]] = {"as_it_is": [], "chosen": []}
    for number, seed in enumerate(seeds):
        for which, more in (("as_it_is", {}), ("chosen", plain(chosen))):
            wanted = {**order, "seed": seed, "settings": {**order["settings"], **more}}
            key = f"{CONFIRMED}:{key_of(wanted['settings'])}:{seed}"

            def tell(stage: str, done: int, total: int, unit: str, number: int = number) -> None:
                progress(f"again {number + 1}/{count}: {stage}", done, total, unit)

            value = kept(study, key)
            if value is None:
                value = float(run_in_child(run_again, {"order": wanted, **inputs}, tell))
                keep(study, key, value)
            found[which].append(value)
    apart = [b - a for a, b in zip(found["as_it_is"], found["chosen"], strict=True)]
    difference, low, high = mean_interval(apart)
    known = [difference, *([low, high] if count > 1 else [None, None])]
    return {"seeds": seeds, **found, "difference": dict(zip(("mean", "low", "high"), known, strict=True))}


def _choice(
    order: dict[str, Any],
    wanted: Wanted,
    study: optuna.Study,
    chosen: dict[str, Any],
    again: dict[str, Any] | None,
    n_val: int,
) -> dict[str, Any]:
    """Return what choice.json holds: the best trial, the recipe as it is, both trained again, and how."""
    import optuna

    best, trials = best_trial(study), finished(study)
    return {
        "recipe": wanted.name,
        "scheme": order["scheme"],
        "settings": plain(chosen),
        "trial": best.number,
        "val_accuracy": best.value,
        "val_accuracy_interval": wilson_interval(round(cast(float, best.value) * n_val), n_val),
        "as_it_is": _as_it_is(trials),
        "again": again,
        "trials": dict(Counter(state_of(trial) for trial in trials)),
        "seconds": round(seconds_of(study), 1),
        "jobs": wanted.jobs,
        "versions": {**machine.versions(), "optuna": optuna.__version__},
        "machine": machine.describe(),
    }


def _as_it_is(trials: list[optuna.trial.FrozenTrial]) -> float | None:
    """Return what the recipe's own settings reached, which are the first trial; None where that failed."""
    first = next((one for one in trials if one.number == 0 or one.user_attrs.get(AGAIN) == 0), None)
    return first.value if first and first.state.name == "COMPLETE" else None


def _publish(
    folder: Path,
    order: dict[str, Any],
    study: optuna.Study,
    axes: dict[str, Axis],
    table: pd.DataFrame,
    choice: dict[str, Any],
    caption: str,
) -> None:
    names = list(axes)
    logs = [name for name, axis in axes.items() if isinstance(axis, Range) and axis.log]
    with published(folder / TABLE) as scratch:
        table.to_csv(scratch, index=False)
    title = f"Search from {order['scheme']}"
    publish_text(folder / PAGE, study_markdown(table, names, [*_sentences(choice), f"{caption}."], title))
    publish_figure(folder / PICTURES[0], draw_history, table, caption)
    publish_figure(folder / PICTURES[1], draw_importance, importance_of(study), caption)
    publish_figure(folder / PICTURES[2], draw_parallel, table, names, logs, caption)
    publish_json(folder / CHOICE, choice)
    publish_manifest(folder, order["fingerprint"], [FILE, TABLE, PAGE, *PICTURES, CHOICE])


def importance_of(study: optuna.Study) -> dict[str, float]:
    """Return the share of the variance of val accuracy that each setting explains; {} where it is unknown.

    Functional ANOVA of a random forest (Hutter, Hoos & Leyton-Brown 2014), over complete trials.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if len(complete) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


def _sentences(choice: dict[str, Any]) -> list[str]:
    low, high = choice["val_accuracy_interval"]
    counts = choice["trials"]
    lines = [
        f"Trial {choice['trial']} is chosen, with {shown_interval(choice['val_accuracy'], low, high)} on val "
        f"(its interval is Wilson's); {counts.get(COMPLETE, 0)} trials came to their end, "
        f"{counts.get(PRUNED, 0)} were ended early."
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
    sentence = (
        f"Trained again with the fresh seeds {', '.join(map(str, again['seeds']))}, the choice reaches "
        f"{means['chosen']:.1f} % on val and the recipe as it is {means['as_it_is']:.1f} %: "
        f"{100 * difference['mean']:+.1f} points"
    )
    if difference["low"] is not None:
        sentence += f" (95 % over seeds: {100 * difference['low']:+.1f} … {100 * difference['high']:+.1f})"
    return f"{sentence}."


def _publish_name(
    recipes: Path, folder: Path, order: dict[str, Any], recipe: Any, choice: dict[str, Any]
) -> None:
    scheme, row = order["scheme"].partition(":")[0], row_of(order)
    settings = settings_beside(override(recipe, choice["settings"]), row)
    origin = {"study": folder.name, "val_accuracy": choice["val_accuracy"], "trial": choice["trial"]}
    facts = {"study": sha256_of(folder / MANIFEST)}
    publish_recipe(recipes / choice["recipe"], scheme, row.name, settings, origin, facts)
