"""The sweep of heads, and the training tasks, one for each row of SCHEMES."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

from pipeline.machine import resolve_precision
from pipeline.recipes import settings
from pipeline.recipes.fine_tune import top_row, top_settings
from pipeline.recipes.heads import NetworkHead
from pipeline.recipes.prefix import Prefix, plan_prefix
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.sweep import checked_space, layers_of
from pipeline.storage import layout
from tasks.configuration import data_folder
from tasks.features import ExtractFeatures
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.recipes import HeadTask, RecipeTask, takes_recipe
from tasks.task import Task

logger = logging.getLogger("luigi-interface")


@takes_recipe(SCHEMES["head"])
class TuneHead(HeadTask):
    """Try all settings of a head's space at once, rank them on val: sweep.csv, sweep.png, choice.json.

    TrainTunedHead fits the chosen head anew on train and val; each setting of a recipe is a parameter.
    """

    kind = "sweep"
    space = SettingsParameter(
        default={},
        example='{"alpha": [1, 10]}',
        description='values to try, such as {"learning_rate": [0.001, 0.01], "layers": ["block4_pool"]}; '
        "an empty list leaves a setting as it is [default: the recipe's own space]",
    )

    @functools.cached_property
    def searched(self) -> dict[str, tuple[Any, ...]]:
        """The values to try, by setting."""
        return checked_space(self.chosen, settings.plain(self.space))

    @property
    def layers_read(self) -> tuple[str, ...]:
        """All layers that any head of the sweep reads."""
        return layers_of(self.chosen, self.searched)

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The recipe, the space, and the features; of the precision only what networks are trained in."""
        network = isinstance(self.chosen, NetworkHead)
        return {
            **self.basis,
            "recipe": self.recipe,
            "space": settings.plain(self.searched),
            "precision": resolve_precision(self.precision) if network else "float32",
        }

    def make(self) -> None:
        fields = ("settings", "space", "precision")
        self.publish("pipeline.tuning.head_sweep:tune_head", *fields, weights=self.weights_title)


class TrainTask(RecipeTask):
    """Train one run of a scheme and leave recipe, history, model, predictions and costs in data/runs/.

    recipe names a row of the scheme's recipes; each setting of it is a parameter of its own.
    """

    kind = "run"
    seed = WholeNumber(default=0, description="seed of weights, order, augmentation and dropout")

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the run depends on; of the cached features only what it reads."""
        return {
            **self.basis,
            "scheme": f"{self.scheme.name}:{self.recipe}",
            "seed": self.seed,
            "precision": resolve_precision(self.precision),
        }

    @property
    def label(self) -> str:
        return f"{super().label}-seed{self.seed}"

    @property
    def reports(self) -> Path:
        """The folder of what is derived from this run."""
        return layout.run_reports(data_folder(), self.folder)

    def make(self) -> None:
        told = {"spec": self.spec.as_json(), "inputs": self.folders, "folder": self.folder}
        self.in_child("pipeline.runs.train:train_run", **told)


class TunedTask(TrainTask):
    """A scheme that needs a sweep of heads, whose choice it fits anew on train and val."""

    space = TuneHead.space

    @property
    def sweep_task(self) -> TuneHead:
        """The sweep that chooses."""
        return self.clone(TuneHead)

    @property
    def layers_read(self) -> tuple[str, ...]:
        """All layers that any head of the sweep reads, one of which is chosen only later."""
        return self.sweep_task.layers_read

    @property
    def inputs(self) -> dict[str, Task]:
        """What every run reads, and the sweep."""
        return {**super().inputs, "sweep": self.sweep_task}


class FineTuneTask(TrainTask):
    """A scheme that needs a top: it is fitted on cached features, then fine-tuned with the backbone.

    The top's settings are the best of a sweep (TuneHead). What is frozen all the time comes from cached maps
    where that is less work (--prefix); the saved network is whole, whichever way it was trained.
    """

    @functools.cached_property
    def prefix_plan(self) -> Prefix:
        """Where the frozen blocks are computed, and why; --prefix is the setting that decides."""
        return plan_prefix(self.chosen, self.backbone_row)

    @property
    def inputs(self) -> dict[str, Task]:
        """What every run reads, the sweep of the top, and the maps where they are cached."""
        maps = {"maps": self.maps_task} if self.prefix_plan.cached else {}
        return {**super().inputs, "sweep": self.sweep_task, **maps}

    @property
    def sweep_task(self) -> TuneHead:
        """The sweep that chooses the settings of the top."""
        (layer,) = self.layers_read
        return TuneHead(recipe=top_row(self.chosen).name, **top_settings(self.chosen, layer), **self.shared)

    @property
    def maps_task(self) -> ExtractFeatures:
        """The cached maps at the cut, in half the bytes where they are computed in 16 bits."""
        plan = self.prefix_plan
        half = plan.pooling == "none" and resolve_precision(self.precision) == "bfloat16"
        storage = "float16" if half else "float32"
        return self.features_of([plan.layer], plan.views, pooling=plan.pooling, storage=storage)

    def make(self) -> None:
        logger.info("%s trains %s", self.folder.name, self.prefix_plan.why)
        super().make()


@takes_recipe(SCHEMES["head"])
class TrainHead(TrainTask):
    """Train a head of any kind on cached features and leave a run in data/runs/."""


@takes_recipe(SCHEMES["tuned-head"])
class TrainTunedHead(TunedTask):
    """Train the head that a sweep chose on val anew on train and val and leave a run in data/runs/.

    recipe and settings are those of the sweep (TuneHead); seed is that of the final fit alone.
    """


@takes_recipe(SCHEMES["fine-tune"])
class FineTune(FineTuneTask):
    """Train a top on cached features, then fine-tune it with the backbone, and leave a run in data/runs/."""


@takes_recipe(SCHEMES["from-scratch"])
class TrainFromScratch(TrainTask):
    """Train a network of conv and dense blocks from random weights and leave a run in data/runs/."""


@functools.cache
def training_task(name: str) -> type[TrainTask]:
    """Return the Luigi task of a row of SCHEMES, made here for a row from outside."""
    for task in (TrainHead, TrainTunedHead, FineTune, TrainFromScratch):
        if task.scheme.name == name:
            return task
    scheme = SCHEMES[name]
    kinds: dict[str, type[TrainTask]] = {"sweep": TunedTask, "top": FineTuneTask}
    base = next((kind for need, kind in kinds.items() if need in scheme.needs), TrainTask)
    return takes_recipe(scheme)(type(scheme.task, (base,), {}))


TASKS = {name: training_task(name) for name in SCHEMES}  # Luigi finds tasks that exist by their names
