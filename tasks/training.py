"""The training tasks: one for each row of SCHEMES, with a parameter for each setting of its recipes."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import luigi
from luigi.util import inherits

from pipeline.machine import resolve_precision
from pipeline.recipes import settings
from pipeline.recipes.fine_tune import top_row, top_settings
from pipeline.recipes.prefix import Prefix, plan_prefix
from pipeline.recipes.schemes import SCHEMES, Scheme
from pipeline.runs.spec import RunSpec
from pipeline.storage import layout
from tasks.configuration import data_folder
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import WholeNumber
from tasks.recipes import SHARED_WITH_FEATURES, RecipeTask, takes_recipe
from tasks.sweeps import SPACE, TuneHead

logger = logging.getLogger("luigi-interface")


class TrainTask(RecipeTask):
    """Train one run of a scheme and leave recipe, history, model, predictions and costs in data/runs/.

    recipe names a row of the scheme's recipes; each setting of it is a parameter of its own.
    """

    seed = WholeNumber(default=0, description="seed of weights, order, augmentation and dropout")

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
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
    def prefix_plan(self) -> Prefix | None:
        """Where frozen blocks are computed; None where nothing is fine-tuned."""
        return None

    @property
    def spec(self) -> RunSpec:
        """What the training is told."""
        return RunSpec(
            scheme=self.scheme.name,
            recipe=self.recipe,
            row=self.row,
            settings=settings.as_dict(self.chosen),
            seed=self.seed,
            precision=resolve_precision(self.precision),
            weights=self.weights_title,
            backbone=self.backbone if self.reads_weights else "none",
            fingerprint=self.fingerprint,
            prefix=self.prefix_plan,
        )

    @property
    def place(self) -> str:
        return f"{layout.folder_of('run')}/{self.readable_place(self.scheme.name)}-seed{self.seed}"

    @property
    def reports(self) -> Path:
        """The folder of what is derived from this run."""
        return layout.run_reports(data_folder(), self.folder)

    def make(self) -> None:
        told = {"spec": self.spec.as_json(), "inputs": self.folders, "folder": self.folder}
        self.in_child("pipeline.runs.train:train_run", **told)


class TunedTask(TrainTask):
    """Fit the head that a sweep chose on val anew on train and val, and leave a run in data/runs/.

    recipe and settings are those of the sweep (TuneHead); seed is that of the final fit alone.
    """

    space = SPACE

    @property
    def sweep_task(self) -> TuneHead:
        """The sweep that chooses."""
        return self.clone(TuneHead)

    @property
    def layers_read(self) -> tuple[str, ...]:
        """All layers that any head of the sweep reads, one of which is chosen only later."""
        return self.sweep_task.layers_read

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
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
        """Where the frozen blocks are computed, and why; --prefix is the setting that decides."""
        return plan_prefix(self.chosen, self.backbone_row)

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
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


@inherits(PrepareDataset, DownloadWeights)
@takes_recipe(SCHEMES["head"])
class TrainHead(TrainTask):
    """Train a head of any kind on cached features and leave a run in data/runs/."""


@inherits(PrepareDataset, DownloadWeights)
@takes_recipe(SCHEMES["tuned-head"])
class TrainTunedHead(TunedTask):
    __doc__ = TunedTask.__doc__


@inherits(PrepareDataset, DownloadWeights)
@takes_recipe(SCHEMES["fine-tune"])
class FineTune(FineTuneTask):
    __doc__ = FineTuneTask.__doc__


@inherits(PrepareDataset)
@takes_recipe(SCHEMES["from-scratch"])
class TrainFromScratch(TrainTask):
    """Train a network of conv and dense blocks from random weights and leave a run in data/runs/."""


@functools.cache
def training_task(name: str) -> type[TrainTask]:
    """Return the Luigi task of a row of SCHEMES, made here for a row from outside."""
    ours = {task.scheme.name: task for task in (TrainHead, TrainTunedHead, FineTune, TrainFromScratch)}
    return ours.get(name) or _from_outside(SCHEMES[name])


def _from_outside(scheme: Scheme) -> type[TrainTask]:
    kinds = {"sweep": TunedTask, "top": FineTuneTask}
    base = next((kind for need, kind in kinds.items() if need in scheme.needs), TrainTask)
    task = takes_recipe(scheme)(type(scheme.task, (base,), {"__doc__": base.__doc__}))
    return inherits(PrepareDataset, *([DownloadWeights] if "weights" in scheme.needs else []))(task)


TASKS = {name: training_task(name) for name in SCHEMES}  # Luigi finds tasks that exist by their names
