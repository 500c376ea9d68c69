"""What tasks that take a recipe have in common: a parameter for each setting, and what the recipe reads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import luigi

from pipeline.backbones.table import BACKBONES, USUAL
from pipeline.datasets.folders import path_name
from pipeline.errors import BadInput
from pipeline.features.views import IDENTITY
from pipeline.heads.recipes import with_layers
from pipeline.training import settings
from pipeline.training.named import base_of, find_named, named_recipe
from pipeline.training.schemes import SCHEMES, Scheme
from tasks.configuration import data_folder
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import SettingParameter
from tasks.task import Task

SHARED_WITH_FEATURES = ("dataset", "subset", "split_seed", "backbone", "weights", "precision")
OF_FEATURES_ALONE = ("input_size", "storage")  # parameters of a scheme that reads features and no images


def recipes_folder() -> Path:
    """Return the folder of the recipes that searches left."""
    return data_folder() / "recipes"


class RecipeTask(Task):
    """A task with a recipe of a scheme; `recipe` names it, each setting is a parameter of its own."""

    scheme: Scheme

    @functools.cached_property
    def chosen(self) -> Any:
        """The recipe with the settings of the command line."""
        values = {name: getattr(self, name) for name in self.scheme.settings}
        given = {name: value for name, value in values.items() if value is not None}
        recipe = named_recipe(recipes_folder(), self.scheme, self.recipe, given)
        return with_layers(recipe, BACKBONES[self.backbone].taps) if hasattr(self, "backbone") else recipe

    @property
    def row(self) -> str:
        """The row of the scheme's recipes that the recipe is, or that it was found from."""
        return base_of(recipes_folder(), self.scheme, self.recipe)[0]

    def requires(self) -> dict[str, luigi.Task]:
        """Return the prepared data set, and the weights and features that the scheme needs."""
        needed = {"dataset": self.clone(PrepareDataset)}
        if "weights" in self.scheme.needs:
            needed["weights"] = self.clone(DownloadWeights)
        if "features" in self.scheme.needs:
            needed["features"] = self.features_task
        return needed

    @property
    def weights_name(self) -> str:
        """The weights; "none" for a scheme that starts from nothing."""
        return self.clone(DownloadWeights).choice.name if "weights" in self.scheme.needs else "none"

    @property
    def weights_title(self) -> str:
        """The weights for tables, with the backbone where it is not the usual one."""
        known = getattr(self, "backbone", USUAL)
        return self.weights_name if known == USUAL else f"{self.weights_name} ({BACKBONES[known].title})"

    @property
    def layers_read(self) -> tuple[str, ...]:
        """The layers that the recipe reads; the backbone's last unless it says."""
        return getattr(self.chosen, "layers", None) or BACKBONES[self.backbone].taps[-1:]

    @property
    def features_task(self) -> ExtractFeatures:
        """The cached layers and views that the recipe reads."""
        views = getattr(self.chosen, "views", (IDENTITY,))
        names = [*SHARED_WITH_FEATURES, *OF_FEATURES_ALONE]
        shared = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return ExtractFeatures(layers=",".join(self.layers_read), views=",".join(views), **shared)

    def readable_place(self, name: str) -> str:
        """Return a name with the recipe, the data and the weights behind it."""
        parts = [name, self.recipe, path_name(self.dataset)]
        parts += [str(self.subset)] if self.subset else []
        known = getattr(self, "backbone", USUAL)
        parts += [known] if known != USUAL else []
        parts += [self.weights_name] if self.weights_name != "none" else []
        return "-".join(parts)


class HeadTask(RecipeTask):
    """What learns from the cached features of a data set and is no run: a sweep, a curve."""

    scheme = SCHEMES["head"]

    def requires(self) -> dict[str, luigi.Task]:
        """Return the prepared data set and the features."""
        return {"dataset": self.clone(PrepareDataset), "features": self.features_task}

    def publish(self, function: Callable[..., Any], *fields: str, **more: Any) -> None:
        """Run a function in a child with these fields of the fingerprint, and more, as its order."""
        order = {name: self.fingerprint[name] for name in fields}
        folders = {name: task.folder for name, task in self.requires().items()}
        order |= {"recipe": self.recipe, "fingerprint": self.fingerprint, **more}
        self.in_child(function, order=order, folder=self.folder, **folders)


def recipe_parameters(scheme: Scheme) -> dict[str, luigi.Parameter]:
    """Return the parameters of a task that takes a recipe of a scheme, by name."""
    rows = scheme.recipes
    found = {
        "recipe": luigi.Parameter(
            default=next(iter(rows)), description=f"one of {', '.join(rows)}, or the name that a search gave"
        ),
        "precision": ExtractFeatures.precision,
        **{name: SettingParameter(field) for name, field in scheme.settings.items()},
    }
    if "layers" in found:
        found |= {name: getattr(ExtractFeatures, name) for name in OF_FEATURES_ALONE}
    return found


def wanted_schemes(schemes: str, given: Mapping) -> list[tuple[str, Scheme, str, dict]]:
    """Return (text, scheme, name of the recipe, its settings) of each of schemes, which commas separate.

    given has settings by scheme. Raises BadInput for no scheme, an unknown one, or settings of another.
    """
    values = settings.plain(given)
    wanted = [part.strip() for part in schemes.split(",") if part.strip()]
    strangers = sorted(set(values) - set(wanted))
    if not wanted:
        raise BadInput("schemes: expected at least one, such as head:logistic, received none")
    if strangers:
        raise BadInput(f"settings of {strangers}: expected settings of the schemes {', '.join(wanted)}")
    return [
        (text, *find_named(recipes_folder(), text), values.get(text, {})) for text in dict.fromkeys(wanted)
    ]
