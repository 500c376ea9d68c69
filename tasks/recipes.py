"""What tasks that take a recipe have in common: a parameter for each setting, and what the recipe reads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import luigi
from luigi.util import inherits

from pipeline.backbones.table import BACKBONES, USUAL, Backbone
from pipeline.errors import BadInput
from pipeline.recipes import settings
from pipeline.recipes.heads import Head, with_layers
from pipeline.recipes.named import base_of, find_named, named_recipe
from pipeline.recipes.prefix import Prefix
from pipeline.recipes.schemes import Scheme
from pipeline.recipes.sweep import SweepSpec
from pipeline.runs.spec import RunSpec
from pipeline.storage import layout
from pipeline.views import IDENTITY
from tasks.configuration import data_folder
from tasks.data import DataTask, DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import SettingParameter
from tasks.task import Task

SHARED_WITH_FEATURES = ("dataset", "subset", "split_seed", "backbone", "weights", "precision")
OF_FEATURES_ALONE = ("input_size", "storage")  # parameters of a scheme that reads features and no images


def recipes_folder() -> Path:
    """Return the folder of the recipes that searches left."""
    return layout.recipes_folder(data_folder())


class RecipeTask(DataTask):
    """A task with a recipe of a scheme; `recipe` names it, each setting is a parameter of its own."""

    scheme: ClassVar[Scheme]
    recipe: str
    precision: str

    @functools.cached_property
    def chosen(self) -> Any:
        """The recipe with the settings of the command line."""
        values = {name: getattr(self, name) for name in self.scheme.settings}
        given = {name: value for name, value in values.items() if value is not None}
        recipe = named_recipe(recipes_folder(), self.scheme, self.recipe, given)
        return with_layers(recipe, self.backbone_row.taps) if self.reads_weights else recipe

    @property
    def inputs(self) -> dict[str, Task]:
        """What a result depends on beside its settings: the images, and the features that are read."""
        reads_features = "features" in self.scheme.needs
        return {"dataset": self.prepared} | ({"features": self.features_task} if reads_features else {})

    @property
    def basis(self) -> dict[str, Any]:
        """What every result depends on, for its fingerprint: settings and inputs."""
        inputs = {name: task.fingerprint for name, task in self.inputs.items()}
        return {"settings": settings.as_dict(self.chosen), **inputs}

    @property
    def label(self) -> str:
        return self.labelled(self.scheme.name)

    def labelled(self, word: str) -> str:
        """Return a word with the recipe, the data and the weights behind it."""
        parts = [word, self.recipe, self.prepared.label]
        parts += [self.backbone_row.name] if self.backbone_row.name != USUAL else []
        return "-".join([*parts, *([self.weights_choice.name] if self.reads_weights else [])])

    @property
    def reads_weights(self) -> bool:
        """Whether there is a backbone below the recipe."""
        return "weights" in self.scheme.needs

    @property
    def backbone_row(self) -> Backbone:
        """The backbone that is read; the usual one for a scheme that reads none."""
        return BACKBONES[self.backbone if self.reads_weights else USUAL]

    @property
    def weights_title(self) -> str:
        """The weights for tables, with the backbone where it is not the usual one; "none" for none."""
        row, name = self.backbone_row, self.weights_choice.name if self.reads_weights else "none"
        return name if row.name == USUAL else f"{name} ({row.title})"

    @property
    def layers_read(self) -> tuple[str, ...]:
        """The layers that the recipe reads; the backbone's last unless it says."""
        return self.chosen.layers if isinstance(self.chosen, Head) else self.backbone_row.taps[-1:]

    @property
    def shared(self) -> dict[str, Any]:
        """The parameters that a recipe has in common with the features that it reads."""
        return {name: getattr(self, name) for name in SHARED_WITH_FEATURES}

    def features_of(self, layers: Sequence[str], views: Sequence[str], **more: Any) -> ExtractFeatures:
        """Return cached layers and views of the task's own data, by its own weights."""
        columns: dict[str, Any] = {"layers": ",".join(layers), "views": ",".join(views)}
        return ExtractFeatures(**self.shared, **columns, **more)

    @property
    def features_task(self) -> ExtractFeatures:
        """The cached layers and views that the recipe reads."""
        views = self.chosen.views if isinstance(self.chosen, Head) else (IDENTITY,)
        alone = {name: getattr(self, name) for name in OF_FEATURES_ALONE if self.scheme.reads_layers}
        return self.features_of(self.layers_read, views, **alone)

    def requires(self) -> dict[str, Task]:
        """Return the inputs, and the weights where there is a backbone."""
        return {**self.inputs, **({"weights": self.clone(DownloadWeights)} if self.reads_weights else {})}

    @property
    def prefix_plan(self) -> Prefix | None:
        """Where frozen blocks are computed; None where nothing is fine-tuned."""
        return None

    @property
    def spec(self) -> RunSpec:
        """What a training of the recipe is told, with the seed and the precision of the fingerprint."""
        return RunSpec(
            scheme=self.scheme.name,
            recipe=self.recipe,
            row=base_of(recipes_folder(), self.scheme, self.recipe)[0],
            **{name: self.fingerprint[name] for name in ("settings", "seed", "precision")},
            weights=self.weights_title,
            backbone=self.backbone if self.reads_weights else "none",
            fingerprint=self.fingerprint,
            prefix=self.prefix_plan,
        )


RecipeClass = TypeVar("RecipeClass", bound=type[RecipeTask])


def takes_recipe(scheme: Scheme) -> Callable[[RecipeClass], RecipeClass]:
    """Give a task class a scheme, and parameters: its data's, its recipe's, one for each of the settings.

    A decorator in the manner of luigi.util.inherits; parameters that the class has of its own stay.
    """

    def decorated(task: RecipeClass) -> RecipeClass:
        words = f"one of {', '.join(scheme.recipes)}, or the name that a search gave"
        parameters = {
            "recipe": luigi.Parameter(default=next(iter(scheme.recipes)), description=words),
            "precision": ExtractFeatures.precision,
            **{name: SettingParameter(field) for name, field in scheme.settings.items()},
            **{name: getattr(ExtractFeatures, name) for name in OF_FEATURES_ALONE if scheme.reads_layers},
        }
        task.scheme = scheme
        for name, parameter in parameters.items():
            if not hasattr(task, name):
                parameter.__set_name__(task, name)  # which Python does for what a class body assigns alone
                setattr(task, name, parameter)
        return inherits(PrepareDataset, *([DownloadWeights] if "weights" in scheme.needs else []))(task)

    return decorated


class HeadTask(RecipeTask):
    """What learns from the cached features of a data set and is no run: a sweep, a curve."""

    def requires(self) -> dict[str, Task]:
        """Return the inputs alone: features come without their backbone."""
        return self.inputs

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
