"""The training tasks: one for each row of SCHEMES, with a parameter for each setting of its recipes."""

from __future__ import annotations

import functools
from pathlib import Path

import luigi
from luigi.util import inherits

from pipeline.machine import resolve_precision
from pipeline.training import settings
from pipeline.training.record import train_run
from pipeline.training.schemes import SCHEMES
from tasks.configuration import data_folder
from tasks.data import DownloadWeights, PrepareDataset
from tasks.parameters import WholeNumber
from tasks.recipes import RecipeTask, recipe_parameters
from tasks.tuning import SPACE, TuneHead


class TrainTask(RecipeTask):
    """Train one run of a scheme and leave recipe, history, model, predictions and costs in data/runs/.

    recipe names a row of the scheme's recipes; each setting of it is a parameter of its own.
    """

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
        return f"runs/{self.readable_place(self.scheme.name)}-seed{self.seed}"

    @property
    def reports(self) -> Path:
        """The folder of what is derived from this run."""
        return data_folder() / "reports" / "runs" / self.folder.name

    def make(self) -> None:
        order = {name: self.fingerprint[name] for name in ("scheme", "settings", "seed", "precision")}
        order["row"], order["weights"] = self.row, self.weights_name
        order["backbone"] = self.backbone if "weights" in self.scheme.needs else "none"
        order["fingerprint"] = self.fingerprint
        folders = {name: task.folder for name, task in self.requires().items()}
        self.in_child(train_run, order=order, folder=self.folder, **folders)


class TunedTask(TrainTask):
    """Fit the head that a sweep chose on val anew on train and val, and leave a run in data/runs/.

    recipe and settings are those of the sweep (TuneHead); seed is that of the final fit alone.
    """

    @property
    def sweep_task(self) -> TuneHead:
        """The sweep that chooses."""
        return self.clone(TuneHead)

    @property
    def layers_read(self) -> tuple[str, ...]:
        """All layers that any head of the sweep reads, one of which is chosen only later."""
        return self.sweep_task.layers_read

    @functools.cached_property
    def fingerprint(self) -> dict:
        """The run's own, and the space of the sweep; the sweep follows from both."""
        return {**super().fingerprint, "sweep": self.sweep_task.fingerprint}

    def requires(self) -> dict[str, luigi.Task]:
        """Return what every run needs, and the sweep."""
        return {**super().requires(), "sweep": self.sweep_task}


@functools.cache
def training_task(name: str) -> type[TrainTask]:
    """Return the Luigi task of a row of SCHEMES, with a parameter for each setting of its recipes."""
    row = SCHEMES[name]
    base = TunedTask if "sweep" in row.needs else TrainTask
    members = {
        "__doc__": f"{base.__doc__.splitlines()[0]} The scheme is {row.name}.",
        "__module__": __name__,
        "scheme": row,
        "seed": WholeNumber(default=0, description="seed of weights, order, augmentation and dropout"),
        **recipe_parameters(row),
    }
    if base is TunedTask:
        members["space"] = SPACE
    made = type(row.task, (base,), members)
    return inherits(PrepareDataset, *([DownloadWeights] if "weights" in row.needs else []))(made)


TASKS = {name: training_task(name) for name in SCHEMES}  # Luigi finds tasks that exist by their names
TrainHead, TrainTunedHead, FineTune, TrainFromScratch = (
    TASKS[name] for name in ("head", "tuned-head", "fine-tune", "from-scratch")
)
