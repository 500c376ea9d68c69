"""Where the numbers of a page come from: recipes, machines, versions and weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.runs.result import RunResult, data_of, label


def recipe_card(run: RunResult, commands: Mapping[str, str]) -> dict[str, Any]:
    """Return what a run was made from and with; commands has the one that makes it anew by folder's name."""
    recipe = run.recipe
    facts = {
        "scheme": recipe["scheme"],
        "weights": recipe["weights"],
        "seed": recipe["seed"],
        "precision": recipe["precision"],
        "data": data_of(recipe),
        "input size": f"{recipe.get('input_size', '–')} px",
        "trained": recipe.get("prefix", "from images" if recipe["weights"] == "none" else "from the cache"),
        "folder": run.folder.name,
    }
    settings = {name: json.dumps(value, ensure_ascii=False) for name, value in recipe["settings"].items()}
    return {
        "name": f"{label(run)} · seed {recipe['seed']}",
        "facts": facts,
        "settings": settings,
        "command": commands.get(run.folder.name, ""),
    }


def machines(runs: Sequence[RunResult]) -> list[dict[str, Any]]:
    """Return the machines and versions that runs were made with, and which runs, each combination once."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        facts = {**run.recipe.get("machine", {}), **run.recipe.get("versions", {})}
        key = json.dumps(facts, sort_keys=True)
        shown_facts = {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()
        }
        found.setdefault(key, {"facts": shown_facts, "runs": []})["runs"].append(label(run))
    return [{**one, "runs": list(dict.fromkeys(one["runs"]))} for one in found.values()]


def weights(runs: Sequence[RunResult]) -> dict[str, str]:
    """Return the identity of the weights by their name."""
    found = {}
    for run in runs:
        base = run.recipe["fingerprint"].get("features", {})
        if identity := base.get("weights", {}).get("identity"):
            found[f"{base['backbone']} {run.recipe['weights']}"] = identity
    return found
