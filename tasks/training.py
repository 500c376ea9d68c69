"""The sweep of heads and the training tasks, one for each row of SCHEMES."""

import functools
import logging
from typing import Any

from pipeline.machine import resolve_precision
from pipeline.recipes import settings
from pipeline.recipes.fine_tune import Prefix, plan_prefix, top_row, top_settings
from pipeline.recipes.heads import NetworkHead
from pipeline.recipes.schemes import SCHEMES
from pipeline.recipes.sweep import checked_space, layers_of
from tasks.features import ExtractFeatures, warn_of_scaling
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.recipes import HeadTask, RecipeTask, takes_recipe
from tasks.task import Task

logger = logging.getLogger("luigi-interface")


@takes_recipe(SCHEMES["head"])
class TuneHead(HeadTask):
    """Fit all settings in a head's space and rank them on val: sweep.csv, sweep.png, choice.json.

    TrainTunedHead refits the best head on train and val. Each setting of the recipe is a parameter.
    """

    kind = "sweep"
    space = SettingsParameter(
        default={},
        example='{"alpha": [1, 10]}',
        description='values to try, such as {"learning_rate": [0.001, 0.01], "layers": ["block4_pool"]}; '
        "an empty list leaves a setting unchanged [default: the recipe's own space]",
    )

    @functools.cached_property
    def values_to_try(self) -> dict[str, tuple[Any, ...]]:
        """The values to try, by setting."""
        return checked_space(self.resolved, settings.plain(self.space))

    @property
    def layers_read(self) -> tuple[str, ...]:
        """The layers that any head of the sweep reads."""
        return layers_of(self.resolved, self.values_to_try)

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The recipe, the space and the features, and the precision if the head is a trained network."""
        network = isinstance(self.resolved, NetworkHead)
        return {
            **self.common_fingerprint,
            "recipe": self.recipe,
            "space": settings.plain(self.values_to_try),
            "precision": resolve_precision(self.precision) if network else "float32",
        }

    def make(self) -> None:
        fields = ("settings", "space", "precision")
        self.publish("pipeline.tuning.head_sweep:tune_head", *fields, weights=self.weights_title)


class TrainTask(RecipeTask):
    """Train one run of a scheme and save recipe, history, model, predictions and costs in data/runs/.

    recipe is the name of one of the scheme's recipes; each of its settings is a separate parameter.
    """

    kind = "run"
    seed = WholeNumber(default=0, description="seed of initial weights, row order, augmentation and dropout")

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Everything the run depends on, including only the cached features that it reads."""
        return {
            **self.common_fingerprint,
            "scheme": f"{self.scheme.name}:{self.recipe}",
            "seed": self.seed,
            "precision": resolve_precision(self.precision),
        }

    @property
    def label(self) -> str:
        return f"{super().label}-seed{self.seed}"

    def make(self) -> None:
        if self.input_size is None and not self.reads_weights:
            warn_of_scaling(self.prepared.fingerprint, self.pixels)
        arguments = {"spec": self.spec.as_json(), "inputs": self.folders, "folder": self.folder}
        self.in_child("pipeline.runs.train:train_run", **arguments)


class TunedTask(TrainTask):
    """A scheme that needs a sweep of heads and refits the best one on train and val."""

    space = TuneHead.space

    @property
    def sweep_task(self) -> TuneHead:
        """The sweep that chooses the head."""
        return self.clone(TuneHead)

    @property
    def layers_read(self) -> tuple[str, ...]:
        """The layers that any head of the sweep reads, because the choice is made later."""
        return self.sweep_task.layers_read

    @property
    def inputs(self) -> dict[str, Task]:
        """The inputs of every run, and the sweep."""
        return {**super().inputs, "sweep": self.sweep_task}


class FineTuneTask(TrainTask):
    """A scheme that fits a top on cached features and then fine-tunes it with the backbone.

    The top's settings are the best of a sweep (TuneHead). Blocks that stay frozen are read from cached
    feature maps if that is less work (--prefix); the saved network always includes them.
    """

    @functools.cached_property
    def prefix_plan(self) -> Prefix:
        """How the frozen blocks are computed, and why; the setting --prefix decides."""
        return plan_prefix(self.resolved, self.backbone_row, self.pixels)

    @property
    def inputs(self) -> dict[str, Task]:
        """The inputs of every run, the sweep of the top, and the cached feature maps if they are used."""
        maps = {"maps": self.maps_task} if self.prefix_plan.cached else {}
        return {**super().inputs, "sweep": self.sweep_task, **maps}

    @property
    def sweep_task(self) -> TuneHead:
        """The sweep that chooses the settings of the top."""
        (layer,) = self.layers_read
        top = top_row(self.resolved)
        return TuneHead(recipe=top.name, **top_settings(self.resolved, layer), **self.shared)

    @property
    def maps_task(self) -> ExtractFeatures:
        """The cached feature maps at the cut, as float16.

        The same passes compute the averages that the top, and heads on these images, need.
        """
        plan = self.prefix_plan
        are_maps = plan.pooling == "none"
        options = {"pooling": plan.pooling, "storage": "float16" if are_maps else "float32"}
        return self.features_of([plan.layer], plan.views, averages=are_maps, **options)

    def make(self) -> None:
        logger.info("%s trains %s", self.folder.name, self.prefix_plan.why)
        super().make()


@takes_recipe(SCHEMES["head"])
class TrainHead(TrainTask):
    """Train a head on cached features and save a run in data/runs/."""


@takes_recipe(SCHEMES["tuned-head"])
class TrainTunedHead(TunedTask):
    """Refit the best head of a sweep on train and val and save a run in data/runs/.

    The recipe and settings are those of the sweep (TuneHead); the seed affects only the final fit.
    """


@takes_recipe(SCHEMES["fine-tune"])
class FineTune(FineTuneTask):
    """Train a top on cached features, fine-tune it with the backbone, and save a run in data/runs/."""


@takes_recipe(SCHEMES["from-scratch"])
class TrainFromScratch(TrainTask):
    """Train a network of conv and dense blocks from random weights and save a run in data/runs/."""


@functools.cache
def training_task(name: str) -> type[TrainTask]:
    """Return the Luigi task of a row of SCHEMES; for the row of an extension, create it."""
    for task in (TrainHead, TrainTunedHead, FineTune, TrainFromScratch):
        if task.scheme.name == name:
            return task
    scheme = SCHEMES[name]
    kinds: dict[str, type[TrainTask]] = {"sweep": TunedTask, "top": FineTuneTask}
    base = next((kind for need, kind in kinds.items() if need in scheme.needs), TrainTask)
    return takes_recipe(scheme)(type(scheme.task, (base,), {}))


TASKS = {name: training_task(name) for name in SCHEMES}  # Luigi looks up existing tasks by name
