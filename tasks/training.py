"""The training tasks: one for each row of SCHEMES, with a parameter for each setting of its recipes."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import luigi
from luigi.util import inherits

from pipeline.backbones.table import BACKBONES
from pipeline.machine import resolve_precision
from pipeline.training import settings
from pipeline.training.prefix import Prefix, plan_prefix
from pipeline.training.record import train_run
from pipeline.training.schemes import SCHEMES, Scheme
from pipeline.training.top import top_row, top_settings
from tasks.configuration import data_folder
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import WholeNumber
from tasks.recipes import SHARED_WITH_FEATURES, RecipeTask, recipe_parameters
from tasks.tuning import SPACE, TuneHead

logger = logging.getLogger("luigi-interface")


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
        order["row"], order["weights"] = self.row, self.weights_title
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


class FineTuneTask(TrainTask):
    """Fit a top on cached features, then fine-tune it with the backbone, and leave a run in data/runs/.

    The top's settings are the best of a sweep (TuneHead). What is frozen all the time comes from cached maps
    where that is less work (--prefix); the saved network is whole, whichever way it was trained.
    """

    @functools.cached_property
    def prefix_plan(self) -> Prefix:
        """Where the frozen blocks are computed, and why."""
        return plan_prefix(self.chosen, BACKBONES[self.backbone])

    @functools.cached_property
    def fingerprint(self) -> dict:
        """The run's own, the sweep of its top, and the maps where they are cached."""
        found = {**super().fingerprint, "sweep": self.sweep_task.fingerprint}
        return found | ({"maps": self.maps_task.fingerprint} if self.prefix_plan.cached else {})

    @property
    def sweep_task(self) -> TuneHead:
        """The sweep that chooses the settings of the top."""
        (layer,) = self.layers_read
        shared = {name: getattr(self, name) for name in SHARED_WITH_FEATURES}
        return TuneHead(recipe=top_row(self.chosen).name, **top_settings(self.chosen, layer), **shared)

    @property
    def maps_task(self) -> ExtractFeatures:
        """The cached maps at the cut, in half the bytes where they are computed in 16 bits."""
        plan, shared = self.prefix_plan, {name: getattr(self, name) for name in SHARED_WITH_FEATURES}
        half = plan.pooling == "none" and resolve_precision(self.precision) == "bfloat16"
        return ExtractFeatures(
            layers=plan.layer,
            views=",".join(plan.views),
            pooling=plan.pooling,
            storage="float16" if half else "float32",
            **shared,
        )

    def requires(self) -> dict[str, luigi.Task]:
        """Return what every run needs, the sweep of the top, and the maps where they are cached."""
        found = {**super().requires(), "sweep": self.sweep_task}
        return found | ({"maps": self.maps_task} if self.prefix_plan.cached else {})

    def make(self) -> None:
        logger.info("%s trains %s", self.folder.name, self.prefix_plan.why)
        super().make()


def _base(scheme: Scheme) -> type[TrainTask]:
    """Return the kind of task of a scheme, by what it needs."""
    kinds = {"sweep": TunedTask, "top": FineTuneTask}
    return next((kind for need, kind in kinds.items() if need in scheme.needs), TrainTask)


@functools.cache
def training_task(name: str) -> type[TrainTask]:
    """Return the Luigi task of a row of SCHEMES, with a parameter for each setting of its recipes."""
    row = SCHEMES[name]
    base = _base(row)
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
