"""The training tasks: one for each row of SCHEMES, with a parameter for each setting of its recipes."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import luigi
from luigi.util import inherits

from pipeline.backbones.table import BACKBONES
from pipeline.features.views import IDENTITY
from pipeline.machine import resolve_precision
from pipeline.training import settings
from pipeline.training.recipes import Training
from pipeline.training.record import train_run
from pipeline.training.schemes import SCHEMES, Scheme
from tasks.configuration import data_folder
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import SettingParameter, WholeNumber
from tasks.task import Task

SHARED_WITH_FEATURES = ("dataset", "subset", "split_seed", "backbone", "weights", "precision")
OF_FEATURES_ALONE = ("input_size", "storage")  # parameters of a scheme that reads features and no images


class TrainTask(Task):
    """Train one run of a scheme and leave recipe, history, model, predictions and costs in data/runs/.

    recipe names a row of the scheme's recipes; each setting of it is a parameter of its own.
    """

    scheme: Scheme

    @functools.cached_property
    def chosen(self) -> Training:
        """The recipe with the settings of the command line."""
        names = [field.name for field in dataclasses.fields(self.scheme.recipe_type) if field.metadata]
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return self.scheme.recipe(self.recipe, given)

    @property
    def weights_name(self) -> str:
        """The weights as tables show them; "none" for a scheme that starts from nothing."""
        return self.clone(DownloadWeights).choice.name if "weights" in self.scheme.needs else "none"

    @property
    def features_task(self) -> ExtractFeatures:
        """The cached layers and views that the recipe reads; the backbone's last layer unless it says."""
        layers = getattr(self.chosen, "layers", None) or BACKBONES[self.backbone].taps[-1:]
        views = getattr(self.chosen, "views", (IDENTITY,))
        names = [*SHARED_WITH_FEATURES, *OF_FEATURES_ALONE]
        shared = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return ExtractFeatures(layers=",".join(layers), views=",".join(views), **shared)

    @functools.cached_property
    def fingerprint(self) -> dict:
        """What the run depends on; of the cached features only what it reads."""
        found = {
            "scheme": f"{self.scheme.name}:{self.recipe}",
            "settings": settings.as_dict(self.chosen),
            "seed": self.seed,
            "precision": resolve_precision(self.precision),
            "dataset": self.clone(PrepareDataset).fingerprint,
        }
        if "features" in self.scheme.needs:
            found["features"] = self.features_task.fingerprint
        return found

    @property
    def place(self) -> str:
        parts = [self.scheme.name, self.recipe, self.dataset]
        parts += [str(self.subset)] if self.subset else []
        parts += [self.weights_name] if self.weights_name != "none" else []
        return f"runs/{'-'.join(parts)}-seed{self.seed}"

    @property
    def reports(self) -> Path:
        """The folder of what is derived from this run."""
        return data_folder() / "reports" / "runs" / self.folder.name

    def requires(self) -> dict[str, luigi.Task]:
        """Return the prepared data set, and the weights and features that the scheme needs."""
        needed = {"dataset": self.clone(PrepareDataset)}
        if "weights" in self.scheme.needs:
            needed["weights"] = self.clone(DownloadWeights)
        if "features" in self.scheme.needs:
            needed["features"] = self.features_task
        return needed

    def make(self) -> None:
        order = {name: self.fingerprint[name] for name in ("scheme", "settings", "seed", "precision")}
        order["weights"] = self.weights_name
        order["backbone"] = self.backbone if "weights" in self.scheme.needs else "none"
        order["fingerprint"] = self.fingerprint
        folders = {name: task.folder for name, task in self.requires().items()}
        self.in_child(train_run, order=order, folder=self.folder, **folders)


@functools.cache
def training_task(name: str) -> type[TrainTask]:
    """Return the Luigi task of a row of SCHEMES, with a parameter for each setting of its recipes."""
    row = SCHEMES[name]
    fields = [field for field in dataclasses.fields(row.recipe_type) if field.metadata]
    members = {
        "__doc__": f"{TrainTask.__doc__.splitlines()[0]} The scheme is {row.name}.",
        "__module__": __name__,
        "scheme": row,
        "recipe": luigi.Parameter(
            default=next(iter(row.recipes)), description=f"one of {', '.join(row.recipes)}"
        ),
        "seed": WholeNumber(default=0, description="seed of weights, order, augmentation and dropout"),
        "precision": ExtractFeatures.precision,
        **{field.name: SettingParameter(field) for field in fields},
    }
    if "layers" in members:
        members |= {name: getattr(ExtractFeatures, name) for name in OF_FEATURES_ALONE}
    made = type(row.task, (TrainTask,), members)
    return inherits(PrepareDataset, *([DownloadWeights] if "weights" in row.needs else []))(made)


TASKS = {name: training_task(name) for name in SCHEMES}  # Luigi finds tasks that exist by their names
TrainHead, FineTune, TrainFromScratch = (TASKS[name] for name in ("head", "fine-tune", "from-scratch"))
