"""The base of tasks that take a recipe: a parameter for each setting, and the inputs of the recipe."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import luigi
from luigi.util import inherits

from pipeline.backbones.table import BACKBONES, DEFAULT_BACKBONE, Backbone
from pipeline.errors import BadInput
from pipeline.recipes import settings
from pipeline.recipes.fine_tune import Prefix
from pipeline.recipes.heads import Head, resolve_layers
from pipeline.recipes.named import find_named, named_recipe, row_and_settings
from pipeline.recipes.schemes import Scheme
from pipeline.recipes.sweep import SweepSpec
from pipeline.runs.spec import RunSpec
from pipeline.storage import layout
from pipeline.views import IDENTITY
from tasks.configuration import data_folder
from tasks.data import DataTask, DownloadWeights
from tasks.features import ExtractFeatures, NetworkTask
from tasks.parameters import SettingParameter
from tasks.task import Task


def recipes_folder() -> Path:
    """Return the folder of the recipes that searches saved."""
    return data_folder() / layout.folder_of("recipe")


class RecipeTask(DataTask):
    """A task with a recipe of a scheme; `recipe` is its name, and each setting is a separate parameter."""

    scheme: ClassVar[Scheme]
    recipe: str
    storage: str
    precision = NetworkTask.precision
    input_size = NetworkTask.input_size

    @functools.cached_property
    def pixels(self) -> int:
        """The pixels per side that the network sees."""
        return self.network_size(self.input_size)

    @functools.cached_property
    def resolved(self) -> Any:
        """The recipe with the settings from the command line."""
        values = {name: getattr(self, name) for name in self.scheme.settings}
        changed = {name: value for name, value in values.items() if value is not None}
        recipe = named_recipe(recipes_folder(), self.scheme, self.recipe, changed)
        recipe.check_size(self.pixels)
        return resolve_layers(recipe, self.backbone_row) if self.reads_weights else recipe

    @property
    def inputs(self) -> dict[str, Task]:
        """The tasks whose results a result depends on: the images, and the features if it reads any."""
        reads_features = "features" in self.scheme.needs
        return {"dataset": self.prepared} | ({"features": self.features_task} if reads_features else {})

    @property
    def common_fingerprint(self) -> dict[str, Any]:
        """The part of the fingerprint that all results of recipes share: settings, size and inputs."""
        inputs = {name: task.fingerprint for name, task in self.inputs.items()}
        return {"settings": settings.in_keys(self.resolved), "input_size": self.pixels, **inputs}

    @property
    def label(self) -> str:
        return self.label_with(self.scheme.name)

    def label_with(self, prefix: str) -> str:
        """Return a prefix followed by the recipe, the data and the weights."""
        parts = [prefix, self.recipe, self.prepared.label]
        parts += [self.backbone_row.name] if self.backbone_row.name != DEFAULT_BACKBONE else []
        return "-".join([*parts, *([self.weights_choice.name] if self.reads_weights else [])])

    @property
    def reads_weights(self) -> bool:
        """Whether the recipe uses a backbone."""
        return "weights" in self.scheme.needs

    @property
    def backbone_row(self) -> Backbone:
        """The recipe's backbone; the default one if the scheme uses none."""
        return BACKBONES[self.backbone if self.reads_weights else DEFAULT_BACKBONE]

    @property
    def weights_title(self) -> str:
        """The weights as shown in tables, with the backbone unless it is the default one; "none" for none."""
        row, name = self.backbone_row, self.weights_choice.name if self.reads_weights else "none"
        return name if row.name == DEFAULT_BACKBONE else f"{name} ({row.title})"

    @property
    def layers_read(self) -> tuple[str, ...]:
        """The layers that the recipe reads; by default the backbone's last."""
        return self.resolved.layers if isinstance(self.resolved, Head) else self.backbone_row.taps[-1:]

    @property
    def shared(self) -> dict[str, Any]:
        """The parameters that the task shares with the features that it reads."""
        return {name: getattr(self, name) for name, _ in NetworkTask.get_params()}

    def features_of(self, layers: Sequence[str], views: Sequence[str], **more: Any) -> ExtractFeatures:
        """Return the task that caches layers and views of this task's data with its weights."""
        columns: dict[str, Any] = {"layers": ",".join(layers), "views": ",".join(views)}
        return ExtractFeatures(**self.shared, **columns, **more)

    @property
    def features_task(self) -> ExtractFeatures:
        """The cached layers and views that the recipe reads."""
        views = self.resolved.views if isinstance(self.resolved, Head) else (IDENTITY,)
        options = {"storage": self.storage} if self.scheme.reads_layers else {}
        return self.features_of(self.layers_read, views, **options)

    def requires(self) -> dict[str, Task]:
        """Return the inputs, and the weights if there is a backbone."""
        return {**self.inputs, **({"weights": self.clone(DownloadWeights)} if self.reads_weights else {})}

    @property
    def prefix_plan(self) -> Prefix | None:
        """How frozen blocks are computed; None unless the scheme fine-tunes."""
        return None

    @property
    def spec(self) -> RunSpec:
        """The run specification, with the seed and the precision of the fingerprint."""
        return RunSpec(
            scheme=self.scheme.name,
            recipe=self.recipe,
            row=row_and_settings(recipes_folder(), self.scheme, self.recipe)[0],
            **{name: self.fingerprint[name] for name in ("settings", "seed", "precision", "input_size")},
            weights=self.weights_title,
            backbone=self.backbone if self.reads_weights else "none",
            fingerprint=self.fingerprint,
            prefix=self.prefix_plan,
        )


RecipeClass = TypeVar("RecipeClass", bound=type[RecipeTask])


def takes_recipe(scheme: Scheme) -> Callable[[RecipeClass], RecipeClass]:
    """Add a scheme to a task class, with parameters for the network, the recipe and each setting.

    A class decorator like luigi.util.inherits; parameters that the class defines itself are kept.
    """

    def decorated(task: RecipeClass) -> RecipeClass:
        recipes = f"one of {', '.join(scheme.recipes)}, or a recipe saved by a search"
        parameters = {
            "recipe": luigi.Parameter(default=next(iter(scheme.recipes)), description=recipes),
            **{name: SettingParameter(field) for name, field in scheme.settings.items()},
            **({"storage": ExtractFeatures.storage} if scheme.reads_layers else {}),
        }
        task.scheme = scheme
        for name, parameter in parameters.items():
            if not hasattr(task, name):
                parameter.__set_name__(task, name)  # Python calls this only for class bodies
                setattr(task, name, parameter)
        return inherits(NetworkTask)(task) if "weights" in scheme.needs else task

    return decorated


class HeadTask(RecipeTask):
    """A task that fits several heads on cached features and stores no run: a sweep or a curve."""

    def requires(self) -> dict[str, Task]:
        """Return only the inputs: cached features need no backbone."""
        return self.inputs

    def publish(self, function: str, *fields: str, **more: Any) -> None:
        """Run a function in a child process with a SweepSpec of these fingerprint fields and more."""
        values = {name: self.fingerprint[name] for name in fields}
        spec = SweepSpec(recipe=self.recipe, fingerprint=self.fingerprint, **values, **more)
        self.in_child(function, spec=asdict(spec), folder=self.folder, **self.folders)


def parse_schemes(schemes: str, changes: Mapping[str, Any]) -> list[tuple[str, Scheme, str, dict[str, Any]]]:
    """Return (text, scheme, recipe name, changed settings) for each of the comma-separated schemes.

    changes holds settings by scheme. Raises BadInput for no scheme, an unknown one, or settings of another.
    """
    values = settings.plain(changes)
    texts = list(dict.fromkeys(part.strip() for part in schemes.split(",") if part.strip()))
    others = sorted(set(values) - set(texts))
    if not texts:
        raise BadInput("schemes: expected at least one, such as head:logistic, received none")
    if others:
        raise BadInput(f"settings of {others}: expected settings of the schemes {', '.join(texts)}")
    return [(text, *find_named(recipes_folder(), text), values.get(text, {})) for text in texts]
