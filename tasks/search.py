"""Searches for the settings of networks that see images; those of heads are plain sweeps (tasks.sweeps)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import luigi
from luigi.util import inherits

from pipeline.datasets.table import FINAL
from pipeline.errors import BadInput, DamagedFile
from pipeline.machine import resolve_precision
from pipeline.recipes import settings
from pipeline.recipes.named import check_name
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.space import Axis, checked_axes, plain_axes
from pipeline.runs.spec import RunInputs, RunSpec
from pipeline.storage import layout
from pipeline.storage.publishing import read_manifest
from tasks.configuration import data_folder
from tasks.data import DownloadWeights, PrepareDataset
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.progress import ShownProgress
from tasks.recipes import RecipeTask, recipes_folder, takes_recipe
from tasks.results import stamp_of

# What may change while the trials that were made stay: they are of the same study, in the same folder.
OPEN = ("trials", "minutes", "confirmations", "name")


class SearchTask(RecipeTask):
    """A search for settings of a recipe by Optuna, judged on val: trials.csv, study.md, pictures.

    The study (study.db, SQLite) outlives a kill, and more --trials go on with it. The best setting becomes a
    recipe, which --recipe NAME of the training task trains; choice.json compares it with the recipe as it
    is, with fresh seeds.
    """

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
        return self.name or self.readable_place("tuned").replace(":", "-")

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the study depends on, and what ends it."""
        if self.chosen.fits_val:
            raise BadInput(f"fit_on: expected train, because trials are judged on val; received {FINAL}")
        if not (self.trials or self.minutes):
            raise BadInput("expected --trials or --minutes of 1 or more, received 0 of both")
        check_name(self.choice_name, self.scheme)
        found = {
            "search": f"{self.scheme.name}:{self.recipe}",
            "settings": settings.as_dict(self.chosen),
            "space": plain_axes(self.axes),
            "seed": self.seed,
            "precision": resolve_precision(self.precision),
            "dataset": self.clone(PrepareDataset).fingerprint,
            **{name: getattr(self, name) for name in OPEN},
            "name": self.choice_name,
        }
        if "features" in self.scheme.needs:
            found["features"] = self.features_task.fingerprint
        return found

    @property
    def place(self) -> str:
        return f"{layout.folder_of('study')}/{self.readable_place(self.scheme.name)}"

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the study, which more trials do not change."""
        lasting = {name: value for name, value in self.fingerprint.items() if name not in OPEN}
        return layout.keyed(data_folder(), self.place, lasting)

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

        run = RunSpec(
            scheme=self.scheme.name,
            recipe=self.recipe,
            row=self.row,
            **{name: self.fingerprint[name] for name in ("settings", "seed", "precision")},
            weights=self.weights_title,
            backbone=self.backbone if self.reads_weights else "none",
            fingerprint=self.fingerprint,
        )
        prepared = self.clone(PrepareDataset)
        told = (self.fingerprint["space"], self.choice_name, Budget(self.trials, self.minutes))
        data, weights = prepared.words, self.weights_title
        with ShownProgress(self) as progress:
            search(
                SearchSpec(run, *told, self.confirmations, self.jobs),
                RunInputs(**{name: str(folder) for name, folder in self.folders.items()}),
                folder=self.folder,
                recipes=recipes_folder(),
                n_val=prepared.counts["val"],
                caption=f"{data} · weights {weights} · {run.precision} · seed {self.seed}",
                progress=progress,
            )


@inherits(PrepareDataset)
@takes_recipe(SCHEMES["from-scratch"])
class TuneFromScratch(SearchTask):
    __doc__ = SearchTask.__doc__


@inherits(PrepareDataset, DownloadWeights)
@takes_recipe(SCHEMES["fine-tune"])
class TuneFineTune(SearchTask):
    __doc__ = SearchTask.__doc__
