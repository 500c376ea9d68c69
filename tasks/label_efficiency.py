"""Label efficiency: every scheme on few and many training labels, in several draws."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import luigi
from luigi.util import inherits

from pipeline.datasets.table import parse_budget
from pipeline.errors import BadInput, DamagedFile
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
from tasks.data import DataTask, DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.recipes import HeadTask, recipes_folder, takes_recipe, wanted_schemes
from tasks.task import DerivedTask, Task
from tasks.training import training_task

BUDGETS = "1/class,5/class,10/class,25/class,100/class,1%,2%,5%,10%,25%,50%,100%"
# A handful of penalties: a curve has forty fits, and neighbours on this grid differ by less than its bands.
CURVE_SPACE = {"c": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1], "alpha": [1e2, 1e3, 1e4, 1e5], "neighbours": [1, 5, 20]}


def texts_of(budgets: str, draws: int) -> list[str]:
    """Return every budget in every draw, such as 5%#2; of all labels there is one draw. Raises BadInput."""
    found = []
    for text in dict.fromkeys(part.strip() for part in budgets.split(",") if part.strip()):
        if "#" in text:
            raise BadInput(
                f"budgets {budgets!r}: expected no draw in {text!r}; --draws says how many there are"
            )
        several = parse_budget(text).share != 1
        found += [f"{text}#{draw}" if draw else text for draw in range(draws if several else 1)]
    if not found:
        raise BadInput(f"budgets {budgets!r}: expected at least one, such as {BUDGETS}")
    return found


@takes_recipe(SCHEMES["head"])
class HeadCurve(HeadTask):
    """Fit a head that is solved, not trained, on few and many labels from the cache: curve.csv."""

    kind = "curve"
    budgets = luigi.Parameter(
        default=BUDGETS,
        description="labels that are given, by commas: shares such as 5%%, or numbers such as 25/class",
    )
    draws = WholeNumber(default=3, low=1, description="draws of each budget")

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The recipe, the penalties to choose from, the budgets, and the features."""
        axes = {name: CURVE_SPACE.get(name, ()) for name in self.chosen.space}
        return {
            **self.basis,
            "curve": self.recipe,
            "space": settings.plain(checked_space(self.chosen, axes)),
            "labels": texts_of(self.budgets, self.draws),
        }

    def make(self) -> None:
        self.publish("pipeline.heads.label_curve:head_curve", "settings", "space", "labels")


@inherits(PrepareDataset, DownloadWeights)
class LabelEfficiency(DataTask, DerivedTask):
    """Train schemes on shares of the training labels and plot accuracy against labels, with bands.

    Heads that are solved share one task (HeadCurve); every other scheme is trained for each budget and draw,
    for more epochs the fewer labels there are: epochs / sqrt(share), so that 1 % of the labels takes a tenth
    of the updates.
    """

    kind = "labels"
    schemes = luigi.Parameter(
        default="head:logistic,head:prototype,fine-tune:block5,from-scratch:lesson",
        description="schemes by commas",
    )
    budgets, draws = HeadCurve.budgets, HeadCurve.draws
    settings = SettingsParameter(
        default={}, description='settings by scheme, such as {"from-scratch:lesson": {"epochs": 5}}'
    )
    precision = ExtractFeatures.precision

    @functools.cached_property
    def parts(self) -> list[tuple[str, str, Task]]:
        """(scheme, labels, task) of each curve ("" stands for all labels of a curve) and of each run."""
        found: list[tuple[str, str, Task]] = []
        texts = texts_of(self.budgets, self.draws)
        for text, scheme, name, given in wanted_schemes(self.schemes, self.settings):
            row = named_recipe(recipes_folder(), scheme, name, given)
            if scheme.name == "head" and not isinstance(row, NetworkHead):
                found.append((text, "", self.clone(HeadCurve, recipe=name, **given)))
                continue
            for budget in texts:
                draw = parse_budget(budget).draw
                changes = {**given, "label_budget": budget, "stretch": True, "seed": draw}
                found.append((text, budget, self.clone(training_task(scheme.name), recipe=name, **changes)))
        return found

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The curves and runs that it shows."""
        return {"parts": [[scheme, labels, task.fingerprint] for scheme, labels, task in self.parts]}

    @property
    def label(self) -> str:
        return f"{self.prepared.label}-{self.weights_choice.name}"

    @property
    def sources(self) -> list[Task]:
        return [task for _, _, task in self.parts]

    def make(self) -> None:
        data, weights = self.prepared.words, self.weights_choice.name
        files = self.in_process(
            "pipeline.report.efficiency:publish_efficiency",
            folder=self.folder,
            parts=[(scheme, labels, task.folder) for scheme, labels, task in self.parts],
            caption=f"{data} · weights {weights} · {self.draws} draws · settings chosen on val",
        )
        self.publish(files)


def efficiency_folders(datasets: Collection[str]) -> list[Path]:
    """Return the finished reports of label efficiency on prepared data sets, given by their keys."""
    found = []
    for folder in layout.finished(data_folder(), "labels"):
        try:
            manifest = read_manifest(folder)
            parts = manifest.fingerprint["parts"]
            keys = {key_of(part["dataset"]) for _, _, part in parts}
        except (DamagedFile, KeyError, TypeError, ValueError):
            continue  # a report that cannot be read is none
        if keys <= set(datasets) and CAPTION in manifest.files:
            found.append(folder)
    return found
