"""Orders of runs, as their tasks make them."""

from __future__ import annotations

from pipeline.backbones.table import BACKBONES
from pipeline.heads.recipes import with_layers
from pipeline.training.schemes import find_scheme
from pipeline.training.settings import as_dict


def order_of(text: str, overrides: dict, *, precision: str = "float32") -> dict:
    """Return the order of a run of a scheme's recipe, written "scheme:recipe", with some settings changed."""
    scheme, name = find_scheme(text)
    order = {
        "scheme": text,
        "settings": as_dict(scheme.recipe(name, overrides)),
        "seed": 3,
        "precision": precision,
    }
    pretrained = "weights" in scheme.needs
    taps = BACKBONES["vgg16"].taps
    layers = list(getattr(with_layers(scheme.recipe(name, overrides), taps), "layers", taps[-1:]))
    features = {"features": {"layers": layers, "views": ["identity"]}} if pretrained else {}
    return {
        **order,
        "weights": "random" if pretrained else "none",
        "backbone": "vgg16" if pretrained else "none",
        "fingerprint": {**order, **features},
    }
