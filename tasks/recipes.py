"""What tasks that take a recipe have in common: a parameter for each setting, and what the recipe reads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import luigi

from pipeline.backbones.table import BACKBONES, USUAL, Backbone
from pipeline.datasets.folders import path_name
from pipeline.errors import BadInput
from pipeline.recipes import settings
from pipeline.recipes.heads import Head, with_layers
from pipeline.recipes.named import base_of, find_named, named_recipe
from pipeline.recipes.schemes import Scheme
from pipeline.recipes.sweep import SweepSpec
from pipeline.storage import layout
from pipeline.views import IDENTITY
from tasks.configuration import data_folder
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import SettingParameter
from tasks.task import Task

SHARED_WITH_FEATURES = ("dataset", "subset", "split_seed", "backbone", "weights", "precision")
OF_FEATURES_ALONE = ("input_size", "storage")  # parameters of a scheme that reads features and no images

TaskClass = TypeVar("TaskClass", bound=type[Task])


def recipes_folder() -> Path:
    """Return the folder of the recipes that searches left."""
    return layout.recipes_folder(data_folder())


def takes_recipe(scheme: Scheme) -> Callable[[TaskClass], TaskClass]:
    """Give a task class a scheme and a parameter for each setting of its recipes, unless it has its own.

    A decorator in the manner of luigi.util.inherits, which gives a class the parameters of another task.
    """

    def decorated(task: TaskClass) -> TaskClass:
        task.scheme = scheme
        for name, parameter in _recipe_parameters(scheme).items():
            if not hasattr(task, name):
                parameter.__set_name__(task, name)  # which Python does for what a class body assigns alone
                setattr(task, name, parameter)
        return task

    return decorated


def _recipe_parameters(scheme: Scheme) -> dict[str, luigi.Parameter]:
    rows = scheme.recipes
    found = {
        "recipe": luigi.Parameter(
            default=next(iter(rows)), description=f"one of {', '.join(rows)}, or the name that a search gave"
        ),
        "precision": ExtractFeatures.precision,
        **{name: SettingParameter(field) for name, field in scheme.settings.items()},
    }
    if scheme.reads_layers:
        found |= {name: getattr(ExtractFeatures, name) for name in OF_FEATURES_ALONE}
    return found


class RecipeTask(Task):
    """A task with a recipe of a scheme; `recipe` names it, each setting is a parameter of its own."""

    scheme: Scheme

    @functools.cached_property
    def chosen(self) -> Any:
        """The recipe with the settings of the command line."""
        values = {name: getattr(self, name) for name in self.scheme.settings}
        given = {name: value for name, value in values.items() if value is not None}
        recipe = named_recipe(recipes_folder(), self.scheme, self.recipe, given)
        return with_layers(recipe, self.backbone_row.taps) if self.reads_weights else recipe

    @property
    def row(self) -> str:
        """The row of the scheme's recipes that the recipe is, or that it was found from."""
        return base_of(recipes_folder(), self.scheme, self.recipe)[0]

    @property
    def reads_weights(self) -> bool:
        """Whether there is a backbone below the recipe."""
        return "weights" in self.scheme.needs

    @property
    def backbone_row(self) -> Backbone:
        """The backbone that is read; the usual one for a scheme that reads none."""
        return BACKBONES[self.backbone if self.reads_weights else USUAL]

    def requires(self) -> dict[str, luigi.Task]:
        """Return the prepared data set, and the weights and features that the scheme needs."""
        needed = {"dataset": self.clone(PrepareDataset)}
        if self.reads_weights:
            needed["weights"] = self.clone(DownloadWeights)
        if "features" in self.scheme.needs:
            needed["features"] = self.features_task
        return needed

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of what is required, by what it is."""
        return {name: task.folder for name, task in self.requires().items()}

    @property
    def weights_name(self) -> str:
        """The weights; "none" for a scheme that starts from nothing."""
        return self.clone(DownloadWeights).choice.name if self.reads_weights else "none"

    @property
    def weights_title(self) -> str:
        """The weights for tables, with the backbone where it is not the usual one."""
        row = self.backbone_row
        return self.weights_name if row.name == USUAL else f"{self.weights_name} ({row.title})"

    @property
    def layers_read(self) -> tuple[str, ...]:
        """The layers that the recipe reads; the backbone's last unless it says."""
        return self.chosen.layers if isinstance(self.chosen, Head) else self.backbone_row.taps[-1:]

    @property
    def features_task(self) -> ExtractFeatures:
        """The cached layers and views that the recipe reads."""
        views = self.chosen.views if isinstance(self.chosen, Head) else (IDENTITY,)
        names = [*SHARED_WITH_FEATURES, *(OF_FEATURES_ALONE if self.scheme.reads_layers else ())]
        shared = {name: getattr(self, name) for name in names}
        return ExtractFeatures(layers=",".join(self.layers_read), views=",".join(views), **shared)

    def readable_place(self, name: str) -> str:
        """Return a name with the recipe, the data and the weights behind it."""
        parts = [name, self.recipe, path_name(self.dataset)]
        parts += [str(self.subset)] if self.subset else []
        parts += [self.backbone_row.name] if self.backbone_row.name != USUAL else []
        parts += [self.weights_name] if self.reads_weights else []
        return "-".join(parts)


class HeadTask(RecipeTask):
    """What learns from the cached features of a data set and is no run: a sweep, a curve."""

    def requires(self) -> dict[str, luigi.Task]:
        """Return the prepared data set and the features."""
        return {"dataset": self.clone(PrepareDataset), "features": self.features_task}

    def publish(self, function: str, *fields: str, **more: Any) -> None:
        """Run a function in a child, told these fields of the fingerprint, and more, as a SweepSpec."""
        told = {name: self.fingerprint[name] for name in fields}
        spec = SweepSpec(recipe=self.recipe, fingerprint=self.fingerprint, **told, **more)
        self.in_child(function, spec=asdict(spec), folder=self.folder, **self.folders)


def wanted_schemes(schemes: str, given: Mapping[str, Any]) -> list[tuple[str, Scheme, str, dict[str, Any]]]:
    """Return (text, scheme, name of the recipe, its settings) of each of schemes, which commas separate.

    given has settings by scheme. Raises BadInput for no scheme, an unknown one, or settings of another.
    """
    values = settings.plain(given)
    wanted = [part.strip() for part in schemes.split(",") if part.strip()]
    others = sorted(set(values) - set(wanted))
    if not wanted:
        raise BadInput("schemes: expected at least one, such as head:logistic, received none")
    if others:
        raise BadInput(f"settings of {others}: expected settings of the schemes {', '.join(wanted)}")
    return [
        (text, *find_named(recipes_folder(), text), values.get(text, {})) for text in dict.fromkeys(wanted)
    ]
