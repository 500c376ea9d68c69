"""Searches for the settings of networks that see images; those of heads are plain sweeps (tasks.tuning)."""

from __future__ import annotations

import functools
from pathlib import Path

import luigi
from luigi.util import inherits

from pipeline.datasets.split import FINAL
from pipeline.errors import BadInput, DamagedFile
from pipeline.fingerprint import key_of
from pipeline.machine import resolve_precision
from pipeline.publishing import read_manifest
from pipeline.results.run import data_of
from pipeline.training import settings
from pipeline.training.named import check_name
from pipeline.training.schemes import SCHEMES
from pipeline.tuning.space import Axis, checked_axes, plain_axes
from tasks.configuration import data_folder
from tasks.data import DownloadWeights, PrepareDataset
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.progress import ShownProgress
from tasks.recipes import RecipeTask, recipe_parameters, recipes_folder
from tasks.results import stamp_of

SPACE = SettingsParameter(
    default={},
    example='{"learning_rate": {"low": 0.0001, "high": 0.01, "log": true}}',
    description='what to search, such as {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}, '
    '"filters": ["16,32", "32,64"]}; an empty list leaves a setting as it is '
    "[default: the recipe's own space]",
)
# What may change while the trials that were made stay: they are of the same study, in the same folder.
OPEN = ("trials", "minutes", "confirmations", "name")


class _Search(RecipeTask):
    @functools.cached_property
    def axes(self) -> dict[str, Axis]:
        """What is searched, and where."""
        return checked_axes(self.chosen, settings.plain(self.space))

    @property
    def choice_name(self) -> str:
        """The name under which the chosen recipe is kept."""
        return self.name or self.readable_place("tuned").replace(":", "-")

    @functools.cached_property
    def fingerprint(self) -> dict:
        """What the study depends on, and what ends it."""
        if getattr(self.chosen, "fit_on", None) == FINAL:
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
        return f"studies/{self.readable_place(self.scheme.name)}"

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the study, which more trials do not change."""
        lasting = {name: value for name, value in self.fingerprint.items() if name not in OPEN}
        return data_folder() / f"{self.place}-{key_of(lasting)}"

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
        from pipeline.tuning.search import Wanted, search
        from pipeline.tuning.study import Budget

        order = {
            "scheme": self.fingerprint["search"],
            "row": self.row,
            **{name: self.fingerprint[name] for name in ("settings", "precision", "space", "seed")},
            "weights": self.weights_title,
            "backbone": self.backbone if "weights" in self.scheme.needs else "none",
            "fingerprint": self.fingerprint,
        }
        prepared = self.clone(PrepareDataset)
        row, data = prepared.row, read_manifest(prepared.folder).facts["counts"]
        words = {"dataset_title": row.title, "dataset_note": row.note}
        words |= {f"n_{name}": count for name, count in data.items()}
        with ShownProgress(self) as progress:
            search(
                order,
                Wanted(self.choice_name, Budget(self.trials, self.minutes), self.confirmations, self.jobs),
                folder=self.folder,
                recipes=recipes_folder(),
                inputs={name: str(task.folder) for name, task in self.requires().items()},
                n_val=data["val"],
                caption=f"{data_of(words)} · weights {self.weights_title} · {order['precision']} · "
                f"seed {self.seed}",
                progress=progress,
            )


def _search_task(name: str, scheme: str) -> type[_Search]:
    row = SCHEMES[scheme]
    doc = (
        f"Search settings of a {scheme} recipe by Optuna, judged on val: trials.csv, study.md, pictures.\n\n"
        "The study (study.db, SQLite) outlives a kill, and more --trials go on with it. The best setting "
        f"becomes a recipe: `{row.task} --recipe NAME`; choice.json compares it with the recipe as it is, "
        "with fresh seeds."
    )
    members = {
        "__doc__": doc,
        "__module__": __name__,
        "scheme": row,
        "space": SPACE,
        "trials": WholeNumber(default=20, description="trials, 0 for no limit"),
        "minutes": WholeNumber(default=0, description="minutes of trials, 0 for no limit"),
        "confirmations": WholeNumber(default=3, description="fresh seeds to compare the choice with"),
        "jobs": WholeNumber(default=1, low=1, description="trials that run at the same time"),
        "name": luigi.Parameter(
            default="", description="name of the chosen recipe [default: tuned-RECIPE-DATASET]"
        ),
        "seed": WholeNumber(default=0, description="seed of the search and of all its trainings"),
        **recipe_parameters(row),
    }
    made = type(name, (_Search,), members)
    return inherits(PrepareDataset, *([DownloadWeights] if "weights" in row.needs else []))(made)


TuneFromScratch = _search_task("TuneFromScratch", "from-scratch")
TuneFineTune = _search_task("TuneFineTune", "fine-tune")
