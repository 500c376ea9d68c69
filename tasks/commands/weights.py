"""The weights that a stored run needs to be whole."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import BadInput
from pipeline.runs.result import read_run
from pipeline.storage import layout
from pipeline.storage.publishing import MANIFEST
from pipeline.use.network import needs_weights
from tasks.configuration import data_folder


def weights_of(folder: Path) -> str | None:
    """Return the folder of the weights that a run needs to be whole, None where it needs none."""
    recipe = read_run(folder).recipe
    if not needs_weights(recipe):
        return None
    features = recipe["fingerprint"]["features"]
    wanted = {"backbone": features["backbone"], **features["weights"]}
    place = layout.keyed(data_folder(), layout.weights_place(wanted["backbone"], wanted["name"]), wanted)
    if not (place / MANIFEST).is_file():
        raise BadInput(
            f"{folder.name}: its backbone's weights are not at {place}; get them with `luigi --module tasks "
            f"DownloadWeights --backbone {features['backbone']} --weights {features['weights']['name']}`"
        )
    return str(place)
