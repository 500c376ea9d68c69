"""Searches for the settings of networks that see images; those of heads are plain sweeps (TuneHead)."""

from __future__ import annotations

import functools
from typing import Any

import luigi

from pipeline.datasets.table import FINAL
from pipeline.errors import BadInput, DamagedFile
from pipeline.machine import resolve_precision
from pipeline.recipes import settings
from pipeline.recipes.named import check_name
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.space import Axis, checked_axes, plain_axes
from pipeline.runs.spec import RunInputs
from pipeline.storage.publishing import read_manifest
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.progress import ShownProgress
from tasks.recipes import RecipeTask, recipes_folder, takes_recipe
from tasks.task import stamp_of

# What may change while the trials that were made stay: they are of the same study, in the same folder.
OPEN = ("trials", "minutes", "confirmations", "name")


class SearchTask(RecipeTask):
    """A search for settings of a recipe by Optuna, judged on val: trials.csv, study.md, pictures.

    The study (study.log, Optuna) outlives a kill, and more --trials go on with it. The best setting becomes a
    recipe, which --recipe NAME of the training task trains; choice.json compares it with the recipe as it
    is, with fresh seeds.
    """

    kind = "study"
    space = SettingsParameter(
        default={},
        example='{"learning_rate": {"low": 0.0001, "high": 0.01, "log": true}}',
        description='what to search, such as {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}, '
        '"filters": ["16,32", "32,64"]}; an empty list leaves a setting as it is '
        "[default: the recipe's own space]",
    )
    trials = WholeNumber(default=20, description="trials, 0 for no limit")
    minutes = WholeNumber(default=0, description="minutes of trials, 0 for no limit")
    confirmations = WholeNumber(default=3, description="fresh seeds to compare the choice with")
    jobs = WholeNumber(default=1, low=1, description="trials that run at the same time")
    name = luigi.Parameter(
        default="", description="name of the chosen recipe [default: tuned-RECIPE-DATASET]"
    )
    seed = WholeNumber(default=0, description="seed of the search and of all its trainings")

    @functools.cached_property
    def axes(self) -> dict[str, Axis]:
        """What is searched, and where."""
        return checked_axes(self.chosen, settings.plain(self.space))

    @property
    def choice_name(self) -> str:
        """The name under which the chosen recipe is kept."""
        return self.name or self.labelled("tuned").replace(":", "-")

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the study depends on, and what ends it."""
        if self.chosen.fits_val:
            raise BadInput(f"fit_on: expected train, because trials are judged on val; received {FINAL}")
        if not (self.trials or self.minutes):
            raise BadInput("expected --trials or --minutes of 1 or more, received 0 of both")
        check_name(self.choice_name, self.scheme)
        return {
            **self.basis,
            "search": f"{self.scheme.name}:{self.recipe}",
            "space": plain_axes(self.axes),
            "seed": self.seed,
            "precision": resolve_precision(self.precision),
            **{name: getattr(self, name) for name in OPEN},
            "name": self.choice_name,
        }

    @property
    def identity(self) -> dict[str, Any]:
        """What names the study, which more trials do not change."""
        return {name: value for name, value in self.fingerprint.items() if name not in OPEN}

    def complete(self) -> bool:
        """Say whether the study is whole, and its choice is what the name means."""
        if not super().complete():
            return False
        try:
            named = read_manifest(recipes_folder() / self.choice_name)
        except DamagedFile:
            return False
        return named.facts == {"study": stamp_of(self.folder)} and named.missing() is None

    def make(self) -> None:
        from pipeline.tuning.search import SearchSpec, search  # loads Optuna, which planning does without
        from pipeline.tuning.study import Budget

        told = (self.fingerprint["space"], self.choice_name, Budget(self.trials, self.minutes))
        words, run = self.prepared.words, self.spec
        with ShownProgress(self) as progress:
            search(
                SearchSpec(run, *told, self.confirmations, self.jobs),
                RunInputs(**{name: str(folder) for name, folder in self.folders.items()}),
                folder=self.folder,
                recipes=recipes_folder(),
                n_val=self.prepared.counts["val"],
                caption=f"{words} · weights {run.weights} · {run.precision} · seed {self.seed}",
                progress=progress,
            )


@takes_recipe(SCHEMES["from-scratch"])
class TuneFromScratch(SearchTask):
    """Search for settings of a network that is trained from random weights, for TrainFromScratch to train."""


@takes_recipe(SCHEMES["fine-tune"])
class TuneFineTune(SearchTask):
    """Search for settings of fine-tuning, for FineTune to train."""
