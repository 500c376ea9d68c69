"""The task that trains, scores, plots and compares all schemes of a preset."""

import fnmatch
import functools
import logging
from pathlib import Path
from typing import Any

import luigi

from pipeline.datasets.table import PICTURES
from pipeline.errors import BadInput
from pipeline.features.sections import scaling_note
from pipeline.recipes.presets import PRESETS, Plan, Preset
from pipeline.report.table import COMPARISON_PAGE, COMPARISON_PLOTS
from pipeline.results.table import SCORES
from pipeline.storage import layout
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import undamaged_files
from tasks.configuration import data_folder
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.label_efficiency import efficiency_folders
from tasks.parameters import OptionalNumber, WholeNumber, WholeNumbers
from tasks.recipes import parse_schemes
from tasks.results import PlotRun, ScoreRun
from tasks.task import DerivedTask, Task, command_of, stamp_of
from tasks.training import TrainTask

logger = logging.getLogger("luigi-interface")  # shown with Luigi's own messages


class CompareSchemes(DerivedTask):
    """Compare the schemes of a preset: a page, tables and plots in data/reports/<preset>/.

    The folder's name has the data set as well, unless it is the preset's own.

    Open index.html. The report includes finished label-efficiency reports on the same data.
    """

    kind = "comparison"
    preset = luigi.Parameter(default="demo", description="demo, quick or full")
    schemes = luigi.Parameter(
        default="", description="schemes, such as head:linear,fine-tune:block5 [default: the preset's]"
    )
    only = luigi.Parameter(
        default="", description="only schemes that match a pattern, such as 'head:*' [default: all]"
    )
    dataset = luigi.OptionalStrParameter(default=None, description="data set [default: the preset's]")
    subset = OptionalNumber(default=None, description="images in a subset, 0 for all [default: the preset's]")
    weights = luigi.OptionalStrParameter(default=None, description="weights [default: the preset's]")
    backbone = DownloadWeights.backbone
    image_size = PrepareDataset.image_size
    layout = PrepareDataset.layout
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
        return PRESETS[self.preset]

    @property
    def plans(self) -> list[Plan]:
        """The preset's plans, or one for each of schemes, that match only. Raises BadInput if none does."""
        parsed = parse_schemes(self.schemes, {}) if self.schemes else []
        plans = [Plan(text) for text, *_ in parsed] or self.row.plans
        patterns = self.only.split(",") if self.only else ["*"]
        chosen = [plan for plan in plans if any(fnmatch.fnmatchcase(plan.scheme, one) for one in patterns)]
        if not chosen:
            names = ", ".join(dict.fromkeys(plan.scheme for plan in plans))
            raise BadInput(f"--only {self.only!r}: expected a pattern that matches one of {names}")
        return chosen

    @property
    def title(self) -> str:
        """The title of the report: the preset's unless it has other schemes, with the data set."""
        title = "Chosen schemes" if self.schemes or self.only else self.row.title
        other = [self.folder.name] if self.folder.name != self.preset else []
        return " · ".join([title, self.runs[0].prepared.row.title, *other])

    @functools.cached_property
    def results(self) -> list[tuple[ScoreRun, PlotRun]]:
        """The score and plot tasks of every run, in the preset's order, with the seeds of a plan together."""
        row, is_own = self.row, (self.dataset or "").startswith(PICTURES)
        subset = self.subset if self.subset is not None else 0 if is_own else row.subset
        pairs = []
        for plan in self.plans:
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
        size = plan.input_size or self.row.input_size if self.input_size is None else self.input_size
        if size and plan.scheme.startswith("from-scratch") and size != plan.input_size:
            dataset = self.clone(PrepareDataset, dataset=self.dataset or self.row.dataset, subset=0)
            return min(size, dataset.fingerprint["image_size"])
        return size

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
    def fingerprint(self) -> dict[str, Any]:
        """The runs, and the names of scores and plots."""
        return {
            "preset": self.preset,
            "runs": [run.fingerprint for run in self.runs],
            "scores": [*SCORES],
            "plots": [*COMPARISON_PLOTS],
        }

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the report, with what differs from the preset's own data and schemes in its name."""
        prepared, parts = self.runs[0].prepared, [self.preset]
        if prepared != PrepareDataset(dataset=self.row.dataset, subset=self.row.subset):
            parts.append(prepared.label)
        if prepared.pictures or self.schemes or self.only or self.split_seed:
            chosen = [self.schemes, self.only, *([self.split_seed] if self.split_seed else [])]
            parts.append(key_of([str(prepared.pictures or prepared.dataset), *chosen])[:6])
        return data_folder() / layout.folder_of("comparison") / "-".join(parts)

    @property
    def sources(self) -> list[Task]:
        """The scores and plots of every run."""
        return [task for pair in self.results for task in pair]

    @property
    def facts(self) -> dict[str, Any]:
        """Stamps of the runs, and of the label-efficiency reports included with them."""
        stamps = [stamp_of(run.folder) for run in self.runs]
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
            command=command_of("run", CompareSchemes, self.param_kwargs, {"preset": None}),
            efficiency=self._efficiency,
            up_to_date=undamaged_files(self.folder, self.facts),
        )
        self.publish(files)
        for note in self.notes:
            logger.info(note)
        logger.info("%s\n%s\nReport: %s", self.title, text, self.folder / COMPARISON_PAGE)
