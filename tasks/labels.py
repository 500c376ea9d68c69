"""Label efficiency: every scheme on few and many training labels, in several draws."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path

import luigi
from luigi.util import inherits

from pipeline.datasets.folders import path_name
from pipeline.datasets.labels import parse_budget
from pipeline.errors import BadInput, DamagedFile
from pipeline.fingerprint import key_of
from pipeline.heads.efficiency import CURVE, head_curve
from pipeline.heads.recipes import NetworkHead
from pipeline.heads.sweep import checked_space
from pipeline.publishing import MANIFEST, read_manifest
from pipeline.results.efficiency import CAPTION, COLUMNS, TABLE, draw_efficiency, efficiency_markdown
from pipeline.results.run import data_of, read_run
from pipeline.results.scores import score
from pipeline.training import settings
from pipeline.training.named import named_recipe
from pipeline.training.schemes import SCHEMES, Scheme
from tasks.configuration import data_folder
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import SettingsParameter, WholeNumber
from tasks.recipes import HeadTask, recipe_parameters, recipes_folder, wanted_schemes
from tasks.reports import ReportTask
from tasks.task import Task
from tasks.training import training_task

BUDGETS = "1/class,5/class,10/class,25/class,100/class,1%,2%,5%,10%,25%,50%,100%"
# A handful of penalties: a curve has forty fits, and neighbours on this grid differ by less than its bands.
CURVE_SPACE = {"c": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1], "alpha": [1e2, 1e3, 1e4, 1e5], "neighbours": [1, 5, 20]}


def texts_of(budgets: str, draws: int) -> list[str]:
    """Return every budget in every draw, such as 5%#2; of all labels there is one draw. Raises BadInput."""
    found = []
    for text in dict.fromkeys(part.strip() for part in budgets.split(",") if part.strip()):
        if "#" in text:
            raise BadInput(
                f"budgets {budgets!r}: expected no draw in {text!r}; --draws says how many there are"
            )
        several = parse_budget(text).share != 1
        found += [f"{text}#{draw}" if draw else text for draw in range(draws if several else 1)]
    if not found:
        raise BadInput(f"budgets {budgets!r}: expected at least one, such as {BUDGETS}")
    return found


class _HeadCurve(HeadTask):
    @functools.cached_property
    def fingerprint(self) -> dict:
        """The recipe, the penalties to choose from, the budgets, and the features."""
        axes = {name: values for name, values in CURVE_SPACE.items() if name in self.chosen.space}
        space = checked_space(self.chosen, {**dict.fromkeys(self.chosen.space, ()), **axes})
        return {
            "curve": self.recipe,
            "settings": settings.as_dict(self.chosen),
            "space": settings.plain(space),
            "labels": texts_of(self.budgets, self.draws),
            "dataset": self.clone(PrepareDataset).fingerprint,
            "features": self.features_task.fingerprint,
        }

    @property
    def place(self) -> str:
        return f"curves/{self.readable_place('head')}"

    def make(self) -> None:
        self.publish(head_curve, "settings", "space", "labels")


def _curve_parameters() -> dict:
    words = "labels that are given, by commas: shares such as 5%%, or numbers such as 25/class"
    draws = WholeNumber(default=3, low=1, description="draws of each budget")
    return {"budgets": luigi.Parameter(default=BUDGETS, description=words), "draws": draws}


def _head_curve() -> type[_HeadCurve]:
    doc = "Fit a head that is solved, not trained, on few and many labels from the cache: curve.csv."
    members = {
        "__doc__": doc,
        "__module__": __name__,
        **_curve_parameters(),
        **recipe_parameters(SCHEMES["head"]),
    }
    return inherits(PrepareDataset, DownloadWeights)(type("HeadCurve", (_HeadCurve,), members))


HeadCurve = _head_curve()


@inherits(PrepareDataset, DownloadWeights)
class LabelEfficiency(ReportTask):
    """Train schemes on shares of the training labels and plot accuracy against labels, with bands.

    Heads that are solved share one task (HeadCurve); every other scheme is trained for each budget and draw,
    for more epochs the fewer labels there are: epochs / sqrt(share), so that 1 % of the labels takes a tenth
    of the updates.
    """

    schemes = luigi.Parameter(
        default="head:logistic,head:prototype,fine-tune:block5,from-scratch:lesson",
        description="schemes by commas",
    )
    budgets = _curve_parameters()["budgets"]
    draws = _curve_parameters()["draws"]
    settings = SettingsParameter(
        default={}, description='settings by scheme, such as {"from-scratch:lesson": {"epochs": 5}}'
    )
    precision = ExtractFeatures.precision

    @functools.cached_property
    def parts(self) -> list[tuple[str, str, Task]]:
        """(scheme, labels, task) of each curve ("" stands for all labels of a curve) and of each run."""
        found = []
        for text, scheme, name, given in wanted_schemes(self.schemes, self.settings):
            row = named_recipe(recipes_folder(), scheme, name, given)
            if scheme.name == "head" and not isinstance(row, NetworkHead):
                shared = {"budgets": self.budgets, "draws": self.draws}
                found.append((text, "", self.clone(HeadCurve, recipe=name, **shared, **given)))
            else:
                for labels in self.texts:
                    found.append((text, labels, self._run(scheme, name, labels, given)))
        return found

    @property
    def texts(self) -> list[str]:
        """Every budget in every draw."""
        return texts_of(self.budgets, self.draws)

    def _run(self, scheme: Scheme, recipe: str, labels: str, given: dict) -> Task:
        changes = {**given, "labels": labels, "stretch": True, "seed": parse_budget(labels).draw}
        return self.clone(training_task(scheme.name), recipe=recipe, **changes)

    @functools.cached_property
    def fingerprint(self) -> dict:
        """The curves and runs that it shows."""
        return {"parts": [[scheme, labels, task.fingerprint] for scheme, labels, task in self.parts]}

    @property
    def place(self) -> str:
        subset = f"-{self.subset}" if self.subset else ""
        return f"reports/labels/{path_name(self.dataset)}{subset}-{self.clone(DownloadWeights).choice.name}"

    @property
    def sources(self) -> list[Task]:
        """The curves and runs."""
        return [task for _, _, task in self.parts]

    def make(self) -> None:
        import pandas as pd

        rows = [row for scheme, labels, task in self.parts for row in _rows(scheme, labels, task.folder)]
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        prepared = self.clone(PrepareDataset)
        row, counts = prepared.row, read_manifest(prepared.folder).facts["counts"]
        words = {"dataset_title": row.title, "dataset_note": row.note}
        words |= {f"n_{split}": count for split, count in counts.items()}
        weights = self.clone(DownloadWeights).choice.name
        caption = f"{data_of(words)} · weights {weights} · {self.draws} draws · settings chosen on val"
        page = efficiency_markdown(table, "Accuracy against labels", caption)
        self.publish(
            tables={TABLE: table},
            texts={"labels.md": page, CAPTION: caption},
            figures={"labels.png": (draw_efficiency, table, caption)},
        )


def efficiency_folders(datasets: Collection[str]) -> list[Path]:
    """Return the finished reports of label efficiency on prepared data sets, given by their keys."""
    found = []
    for path in sorted(data_folder().glob(f"reports/labels/*/{MANIFEST}")):
        try:
            manifest = read_manifest(path.parent)
            parts = manifest.fingerprint["parts"]
            keys = {key_of(part["dataset"]) for _, _, part in parts}
        except (DamagedFile, KeyError, TypeError, ValueError):
            continue  # a report that cannot be read is none
        if keys <= set(datasets) and CAPTION in manifest.files:
            found.append(path.parent)
    return found


def _rows(scheme: str, labels: str, folder: Path) -> list[dict]:
    """Return the rows of the table that a curve or a run gives."""
    if labels:
        run = read_run(folder)
        test = run.split("test")
        found = [{"labels": labels, "n_train": run.recipe["n_train"], "accuracy": score(test)["accuracy"]}]
        found[0] |= {"n_test": len(test), "chosen": ""}
    else:
        import pandas as pd

        found = pd.read_csv(read_manifest(folder).verified(CURVE)).to_dict("records")
    return [{**row, "scheme": scheme, "draw": parse_budget(row["labels"]).draw} for row in found]
