"""The tasks that search for settings of networks trained from images; for heads, see TuneHead."""

import functools
from typing import Any

import luigi

from pipeline.datasets.table import FINAL
from pipeline.errors import BadInput, DamagedFile
from pipeline.machine import resolve_precision
from pipeline.recipes import settings
from pipeline.recipes.named import check_name
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.space import checked_axes, plain_axes
from pipeline.storage.publishing import read_manifest
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.progress import ProgressReporter
from tasks.recipes import RecipeTask, recipes_folder, takes_recipe
from tasks.task import stamp_of

# Parameters that can change without starting a new study: its folder and finished trials stay the same.
ADJUSTABLE = ("trials", "minutes", "confirmations", "name")


class SearchTask(RecipeTask):
    """An Optuna search for settings of a recipe, evaluated on val: trials.csv, study.md, plots.

    The study (study.log) survives kills, and a larger --trials continues it. The best settings become a
    recipe, which the training task runs with --recipe NAME; choice.json compares it with the original recipe
    on new seeds.
    """

    kind = "study"
    space = SettingsParameter(
        default={},
        example='{"learning_rate": {"low": 0.0001, "high": 0.01, "log": true}}',
        description='settings to search, such as {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}, '
        '"filters": ["16,32", "32,64"]}; an empty list leaves a setting unchanged '
        "[default: the recipe's own space]",
    )
    trials = WholeNumber(default=20, description="number of trials, 0 for no limit")
    minutes = WholeNumber(default=0, description="minutes to run trials, 0 for no limit")
    confirmations = WholeNumber(default=3, description="new seeds for comparing the best with the original")
    jobs = WholeNumber(default=1, low=1, description="trials to run at the same time")
    name = luigi.Parameter(
        default="", description="name of the chosen recipe [default: tuned-RECIPE-DATASET]"
    )
    seed = WholeNumber(default=0, description="seed of the search and of all its runs")

    @property
    def choice_name(self) -> str:
        """The name of the chosen recipe."""
        return self.name or self.label_with("tuned").replace(":", "-")

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The recipe, the inputs, the search space, and the limits of the search."""
        if self.resolved.fits_val:
            raise BadInput(f"fit_on: expected train, because trials are scored on val; received {FINAL}")
        if not (self.trials or self.minutes):
            raise BadInput("expected --trials or --minutes of 1 or more, received 0 for both")
        check_name(self.choice_name, self.scheme)
        return {
            **self.common_fingerprint,
            "search": f"{self.scheme.name}:{self.recipe}",
            "space": plain_axes(checked_axes(self.resolved, settings.plain(self.space))),
            "seed": self.seed,
            "precision": resolve_precision(self.precision),
            **{name: getattr(self, name) for name in ADJUSTABLE},
            "name": self.choice_name,
        }

    @property
    def identity(self) -> dict[str, Any]:
        """The fingerprint without the adjustable parameters, which do not change the study's folder."""
        return {name: value for name, value in self.fingerprint.items() if name not in ADJUSTABLE}

    def complete(self) -> bool:
        """Return whether the study is complete and its chosen recipe is stored under its name."""
        if not super().complete():
            return False
        try:
            recipe = read_manifest(recipes_folder() / self.choice_name)
        except DamagedFile:
            return False
        return recipe.facts == {"study": stamp_of(self.folder)} and recipe.missing() is None

    def make(self) -> None:
        from pipeline.tuning.search import SearchSpec, search  # loads Optuna, which planning must not

        limits = {name: getattr(self, name) for name in ("trials", "minutes", "confirmations", "jobs")}
        data, run, sizes = self.prepared.description, self.spec, self.sizes_text(self.input_size)
        facts = [data, f"weights {run.weights}", sizes, run.precision, f"seed {self.seed}"]
        with ProgressReporter(self) as progress:
            search(
                SearchSpec(run, self.fingerprint["space"], self.choice_name, **limits),
                self.folders,
                folder=self.folder,
                recipes=recipes_folder(),
                n_val=self.prepared.counts["val"],
                caption=" · ".join(facts),
                progress=progress,
            )


@takes_recipe(SCHEMES["from-scratch"])
class TuneFromScratch(SearchTask):
    """Search for settings of TrainFromScratch."""


@takes_recipe(SCHEMES["fine-tune"])
class TuneFineTune(SearchTask):
    """Search for settings of FineTune."""
