"""All schemes of a preset, trained, scored, plotted and compared."""

from __future__ import annotations

import functools
import logging
import shlex
from pathlib import Path

import luigi

from pipeline.datasets.table import FOLDER
from pipeline.recipes.presets import Preset, find_preset
from pipeline.report.table import COMPARISON_PLOTS, PAGE
from pipeline.results.table import SCORES
from pipeline.storage import layout
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import publish_manifest, whole_files
from tasks.atlas import LayerAtlas
from tasks.configuration import data_folder
from tasks.data import DownloadWeights
from tasks.features import ExtractFeatures
from tasks.label_efficiency import efficiency_folders
from tasks.parameters import OptionalNumber, WholeNumber, WholeNumbers
from tasks.reports import ReportTask
from tasks.results import PlotRun, ScoreRun, stamp_of
from tasks.task import Task

logger = logging.getLogger("luigi-interface")  # what Luigi's users watch


class CompareSchemes(ReportTask):
    """Compare the schemes of a preset: one page, tables and plots in data/reports/<preset>/.

    index.html is the page to open. Where heads read features of pretrained weights, the atlas of all layers
    is part of the report; so is label efficiency that was measured on the same data.
    """

    preset = luigi.Parameter(default="demo", description="demo, quick or full")
    dataset = luigi.OptionalStrParameter(default=None, description="data set [default: the preset's]")
    subset = OptionalNumber(default=None, description="images of a subset, 0 for all [default: the preset's]")
    weights = luigi.OptionalStrParameter(default=None, description="weights [default: the preset's]")
    backbone = DownloadWeights.backbone
    seeds = WholeNumbers(default=None, description="seeds, such as 0,1,2 [default: the preset's]")
    split_seed = WholeNumber(default=0, description="seed of the train/val/test split and of the subset")
    precision = ExtractFeatures.precision

    @functools.cached_property
    def row(self) -> Preset:
        """The preset."""
        return find_preset(self.preset)

    @functools.cached_property
    def results(self) -> list[tuple[ScoreRun, PlotRun]]:
        """The tables and plots of every run, in the preset's order; all seeds of a plan together."""
        row, found = self.row, []
        own = self.dataset is not None and self.dataset.startswith(FOLDER)
        subset = self.subset if self.subset is not None else 0 if own else row.subset
        for plan in row.plans:
            for seed in self.seeds or row.seeds:
                shared = {
                    "scheme": plan.scheme,
                    "settings": plan.settings,
                    "weights": plan.weights or self.weights or row.weights,
                    "backbone": self.backbone,
                    "dataset": self.dataset or row.dataset,
                    "subset": subset,
                    "split_seed": self.split_seed,
                    "seed": seed,
                    "precision": self.precision,
                }
                found.append((ScoreRun(**shared), PlotRun(**shared)))
        return list(dict.fromkeys(found))  # weights of one's own choice may equal those of a plan

    @functools.cached_property
    def atlases(self) -> list[LayerAtlas]:
        """The atlas of what heads read; not of random weights, of which nothing is worth freezing."""
        heads = [score.run_task for score, _ in self.results if score.run_task.scheme.reads_layers]
        found = dict.fromkeys(run.clone(LayerAtlas) for run in heads)
        return [atlas for atlas in found if not atlas.of_random_weights]

    @functools.cached_property
    def fingerprint(self) -> dict:
        """The runs, the atlases, and the names of scores and plots."""
        return {
            "preset": self.preset,
            "runs": [score.run_task.fingerprint for score, _ in self.results],
            "atlases": [atlas.fingerprint for atlas in self.atlases],
            "scores": [*SCORES],
            "plots": [*COMPARISON_PLOTS],
        }

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the report."""
        return layout.report_folder(data_folder(), self.preset)

    @property
    def sources(self) -> list[Task]:
        """The runs and the atlases."""
        return [*(score.run_task for score, _ in self.results), *self.atlases]

    def requires(self) -> list[luigi.Task]:
        """Return the atlases, which read the most features, and the tables and plots of every run."""
        return [*self.atlases, *(task for pair in self.results for task in pair)]

    @property
    def facts(self) -> dict:
        """The sources as they are now, and the reports of label efficiency that are shown beside them."""
        return {**super().facts, "labels": [stamp_of(folder) for folder in self._efficiency]}

    @property
    def _efficiency(self) -> list[Path]:
        runs = [score.run_task.fingerprint for score, _ in self.results]
        return efficiency_folders({key_of(run["dataset"]) for run in runs})

    def make(self) -> None:
        text, files = self.in_process(
            "tasks.reproducing:write_with_commands",
            folder=self.folder,
            runs=[score.run_task.folder for score, _ in self.results],
            title=self.row.title,
            command=self._command,
            atlases=[atlas.folder for atlas in self.atlases],
            efficiency=self._efficiency,
            kept=whole_files(self.folder, self.facts),
        )
        publish_manifest(self.folder, self.fingerprint, files, self.facts)
        logger.info("%s\n%s\nThe page: %s", self.row.title, text, self.folder / PAGE)

    @property
    def _command(self) -> str:
        """The command that makes all of this, with the parameters that are not the usual ones."""
        given = [
            f"--{name.replace('_', '-')} {shlex.quote(parameter.serialize(value))}"
            for name, parameter in self.get_params()
            if (value := getattr(self, name)) != parameter.task_value(type(self).__name__, name)
            or name == "preset"
        ]
        return " ".join(["luigi --module tasks CompareSchemes", *given])
