"""The task that trains, scores, plots and compares all schemes of a preset."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import luigi

from pipeline.datasets.table import FOLDER
from pipeline.features.sections import scaling_note
from pipeline.recipes.presets import Plan, Preset, find_preset
from pipeline.report.table import COMPARISON_PAGE, COMPARISON_PLOTS
from pipeline.results.table import SCORES
from pipeline.storage import layout
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import undamaged_files
from tasks.atlas import LayerAtlas
from tasks.configuration import data_folder
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.label_efficiency import efficiency_folders
from tasks.parameters import OptionalNumber, WholeNumber, WholeNumbers
from tasks.results import PlotRun, ScoreRun
from tasks.task import DerivedTask, Task, luigi_command, stamp_of
from tasks.training import TrainTask

logger = logging.getLogger("luigi-interface")  # shown with Luigi's own messages


class CompareSchemes(DerivedTask):
    """Compare the schemes of a preset: a page, tables and plots in data/reports/<preset>/.

    Open index.html. If heads read features of pretrained weights, the report includes the layer atlas. It
    also includes finished label-efficiency reports on the same data.
    """

    kind = "comparison"
    preset = luigi.Parameter(default="demo", description="demo, quick or full")
    dataset = luigi.OptionalStrParameter(default=None, description="data set [default: the preset's]")
    subset = OptionalNumber(default=None, description="images in a subset, 0 for all [default: the preset's]")
    weights = luigi.OptionalStrParameter(default=None, description="weights [default: the preset's]")
    backbone = DownloadWeights.backbone
    image_size = PrepareDataset.image_size
    input_size = OptionalNumber(
        default=None, description="pixels per side that networks see [default: the preset's]"
    )
    seeds = WholeNumbers(default=None, description="seeds, such as 0,1,2 [default: the preset's]")
    split_seed = WholeNumber(default=0, description="seed of the train/val/test split and of the subset")
    precision = ExtractFeatures.precision
    engine = ExtractFeatures.engine

    @functools.cached_property
    def row(self) -> Preset:
        """The preset."""
        return find_preset(self.preset)

    @property
    def title(self) -> str:
        """The title of the report: the preset's, with the data set."""
        return f"{self.row.title} · {self.runs[0].prepared.row.title}"

    @functools.cached_property
    def results(self) -> list[tuple[ScoreRun, PlotRun]]:
        """The score and plot tasks of every run, in the preset's order, with the seeds of a plan together."""
        row, is_folder = self.row, (self.dataset or "").startswith(FOLDER)
        subset = self.subset if self.subset is not None else 0 if is_folder else row.subset
        pairs = []
        for plan in row.plans:
            shared = {
                "scheme": plan.scheme,
                "settings": plan.settings,
                "weights": plan.weights or self.weights or row.weights,
                "dataset": self.dataset or row.dataset,
                "subset": subset,
                "input_size": self._size_of(plan),
            }
            for seed in self.seeds or row.seeds:
                shared["seed"] = seed
                pairs.append((self.clone(ScoreRun, **shared), self.clone(PlotRun, **shared)))
        return list(dict.fromkeys(pairs))  # --weights can equal the weights of another plan

    def _size_of(self, plan: Plan) -> int | None:
        """Return the input size of a plan: the option, or the plan's or the preset's own; None if unset.

        Networks from scratch are not given more pixels than the images have.
        """
        if self.input_size is not None and plan.scheme.startswith("from-scratch"):
            dataset = PrepareDataset(dataset=self.dataset or self.row.dataset, image_size=self.image_size)
            return min(self.input_size, dataset.fingerprint["image_size"])
        if self.input_size is not None:
            return self.input_size
        return plan.input_size or self.row.input_size

    @property
    def notes(self) -> list[str]:
        """A sentence for each input size of a preset that leaves out more than half of the images' pixels."""
        if self.input_size is not None:
            return []
        notes: dict[str, list[str]] = {}
        for run in self.runs:
            if note := scaling_note(run.prepared.fingerprint, run.pixels):
                notes.setdefault(note, []).append(f"{run.scheme.name}:{run.recipe}")
        return [f"{', '.join(dict.fromkeys(names))}: {note}" for note, names in notes.items()]

    @functools.cached_property
    def runs(self) -> list[TrainTask]:
        """The training tasks, one for each of the results."""
        return [score.run_task for score, _ in self.results]

    @functools.cached_property
    def atlases(self) -> list[LayerAtlas]:
        """The atlases of the weights that heads read, except random weights, which are not worth freezing."""
        atlases = dict.fromkeys(run.clone(LayerAtlas) for run in self.runs if run.scheme.reads_layers)
        return [atlas for atlas in atlases if not atlas.weights_choice.is_random]

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The runs, the atlases, and the names of scores and plots."""
        return {
            "preset": self.preset,
            "runs": [run.fingerprint for run in self.runs],
            "atlases": [atlas.fingerprint for atlas in self.atlases],
            "scores": [*SCORES],
            "plots": [*COMPARISON_PLOTS],
        }

    @functools.cached_property
    def folder(self) -> Path:
        return layout.report_folder(data_folder(), self.preset)

    @property
    def sources(self) -> list[Task]:
        """The atlases, first because they read the most features, then the scores and plots of every run."""
        return [*self.atlases, *(task for pair in self.results for task in pair)]

    @property
    def facts(self) -> dict[str, Any]:
        """Stamps of the runs and atlases, and of the label-efficiency reports included with them."""
        stamps = [stamp_of(task.folder) for task in (*self.runs, *self.atlases)]
        return {"sources": stamps, "labels": [stamp_of(folder) for folder in self._efficiency]}

    @property
    def _efficiency(self) -> list[Path]:
        return efficiency_folders({key_of(run.fingerprint["dataset"]) for run in self.runs})

    def make(self) -> None:
        text, files = self.in_process(
            "tasks.reproducing:write_with_commands",
            folder=self.folder,
            runs=[run.folder for run in self.runs],
            title=self.title,
            command=luigi_command(CompareSchemes, self.param_kwargs, {"preset": None}),
            atlases=[atlas.folder for atlas in self.atlases],
            efficiency=self._efficiency,
            up_to_date=undamaged_files(self.folder, self.facts),
        )
        self.publish(files)
        for note in self.notes:
            logger.info(note)
        logger.info("%s\n%s\nReport: %s", self.title, text, self.folder / COMPARISON_PAGE)
