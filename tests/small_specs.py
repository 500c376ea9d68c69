"""Run specifications, built as the tasks build them."""

from __future__ import annotations

from pipeline.backbones.table import BACKBONES
from pipeline.recipes.heads import Head, resolve_layers
from pipeline.recipes.schemes import find_scheme
from pipeline.recipes.settings import as_dict
from pipeline.runs.spec import RunSpec


def spec_of(text: str, overrides: dict, *, precision: str = "float32") -> RunSpec:
    """Return the specification of "scheme:recipe" with some settings overridden."""
    scheme, name = find_scheme(text)
    recipe, row = scheme.recipe(name, overrides), BACKBONES["vgg16"]
    fields = {"scheme": text, "settings": as_dict(recipe), "seed": 3, "precision": precision}
    pretrained = "weights" in scheme.needs
    layers = resolve_layers(recipe, row).layers if isinstance(recipe, Head) else row.taps[-1:]
    features = {"features": {"layers": list(layers), "views": ["identity"]}} if pretrained else {}
    return RunSpec(
        scheme=scheme.name,
        recipe=name,
        row=name,
        settings=fields["settings"],
        seed=3,
        precision=precision,
        input_size=32,
        weights="random" if pretrained else "none",
        backbone="vgg16" if pretrained else "none",
        fingerprint={**fields, **features},
        prefix=None,
    )
