"""Label efficiency: accuracy of each scheme at several label budgets, each drawn several times."""

import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import luigi

from pipeline.datasets.table import parse_budget
from pipeline.errors import BadInput, HeadstartError
from pipeline.formatting import pluralize
from pipeline.recipes import settings
from pipeline.recipes.heads import NetworkHead
from pipeline.recipes.named import named_recipe
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.sweep import checked_space
from pipeline.report.table import LABELS_CAPTION as CAPTION
from pipeline.storage import layout
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import read_manifest
from tasks.configuration import data_folder
from tasks.features import NetworkTask
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.recipes import HeadTask, RecipeTask, parse_schemes, recipes_folder, takes_recipe
from tasks.task import DerivedTask
from tasks.training import training_task

BUDGETS = "1/class,5/class,10/class,25/class,100/class,1%,2%,5%,10%,25%,50%,100%"
# Only a few penalties: a curve has forty fits, and adjacent values differ by less than the curve's bands.
CURVE_SPACE = {"c": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1], "alpha": [1e2, 1e3, 1e4, 1e5], "neighbours": [1, 5, 20]}


def expand_budgets(budgets: str, draws: int) -> list[str]:
    """Return each budget once per draw, such as 5%#2, and 100% only once. Raises BadInput."""
    expanded = []
    for text in dict.fromkeys(part.strip() for part in budgets.split(",") if part.strip()):
        if "#" in text:
            raise BadInput(f"budgets {budgets!r}: expected no draw in {text!r}; set --draws instead")
        several = parse_budget(text).share != 1
        expanded += [f"{text}#{draw}" if draw else text for draw in range(draws if several else 1)]
    if not expanded:
        raise BadInput(f"budgets {budgets!r}: expected at least one, such as {BUDGETS}")
    return expanded


@takes_recipe(SCHEMES["head"])
class HeadCurve(HeadTask):
    """Fit a head with a direct solver at every label budget, on cached features: curve.csv."""

    kind = "curve"
    budgets = luigi.Parameter(
        default=BUDGETS,
        description="comma-separated label budgets: shares such as 5%%, or counts such as 25/class",
    )
    draws = WholeNumber(default=3, low=1, description="random draws of each budget")

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The recipe, the penalties to try, the label budgets, and the features."""
        axes = {name: CURVE_SPACE.get(name, ()) for name in self.resolved.space}
        return {
            **self.common_fingerprint,
            "curve": self.recipe,
            "space": settings.plain(checked_space(self.resolved, axes)),
            "labels": expand_budgets(self.budgets, self.draws),
        }

    def make(self) -> None:
        self.publish("pipeline.heads.label_curve:head_curve", "settings", "space", "labels")


class LabelEfficiency(NetworkTask, DerivedTask):
    """Train schemes at several label budgets and plot accuracy against labels, with bands.

    One task (HeadCurve) fits all budgets of a head with a direct solver. Other schemes are trained once per
    budget and draw, for epochs / sqrt(share of labels) epochs, so 1 % of the labels takes a tenth of the
    updates.
    """

    kind = "labels"
    schemes = luigi.Parameter(
        default="head:logistic,head:prototype,fine-tune:block5,from-scratch:lesson",
        description="comma-separated schemes",
    )
    budgets, draws = HeadCurve.budgets, HeadCurve.draws
    settings = SettingsParameter(
        default={}, description='settings by scheme, such as {"from-scratch:lesson": {"epochs": 5}}'
    )

    @functools.cached_property
    def shown(self) -> list[tuple[str, str, RecipeTask]]:
        """(scheme, label budget, task) of each curve and run; the budget is "" for a curve, which has all."""
        parts: list[tuple[str, str, RecipeTask]] = []
        budgets, images = expand_budgets(self.budgets, self.draws), self.prepared.fingerprint["image_size"]
        for text, scheme, name, values in parse_schemes(self.schemes, self.settings):
            recipe = named_recipe(recipes_folder(), scheme, name, values)
            if scheme.name == "head" and not isinstance(recipe, NetworkHead):
                parts.append((text, "", self.clone(HeadCurve, recipe=name, **values)))
                continue
            size = self.input_size
            if scheme.name == "from-scratch":  # as in a comparison: no more pixels than the images have
                size = size and min(size, images)
            for budget in budgets:
                fewer = parse_budget(budget).share != 1  # on all labels, the run is that of the recipe
                values |= {"label_budget": budget, "stretch": fewer, "seed": parse_budget(budget).draw}
                run = self.clone(training_task(scheme.name), recipe=name, input_size=size, **values)
                parts.append((text, budget, run))
        return parts

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The curves and runs in the report."""
        return {"parts": [[scheme, labels, task.fingerprint] for scheme, labels, task in self.shown]}

    @property
    def label(self) -> str:
        return f"{self.prepared.label}-{self.weights_choice.name}"

    def make(self) -> None:
        facts = [self.prepared.description, f"weights {self.weights_choice.name}"]
        pixels, size = {name: task.pixels for name, _, task in self.shown}, self.network_size(self.input_size)
        others = [f"{name} {own} px" for name, own in pixels.items() if own != size]
        facts += [self.sizes_text(self.input_size), *others, pluralize(self.draws, "draw")]
        facts.append("settings chosen on val")
        parts = [(scheme, labels, task.folder) for scheme, labels, task in self.shown]
        arguments = {"folder": self.folder, "parts": parts, "caption": " · ".join(facts)}
        self.publish(self.in_process("pipeline.report.efficiency:publish_efficiency", **arguments))


def efficiency_folders(datasets: Collection[str]) -> list[Path]:
    """Return the finished label-efficiency reports whose data sets all have keys in datasets."""
    folders = []
    for folder in layout.finished(data_folder(), "labels"):
        try:
            manifest = read_manifest(folder)
            keys = {key_of(part["dataset"]) for _, _, part in manifest.fingerprint["parts"]}
        except (HeadstartError, KeyError, TypeError, ValueError):
            continue  # ignore unreadable reports
        if keys <= set(datasets) and CAPTION in manifest.files:
            folders.append(folder)
    return folders
