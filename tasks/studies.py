"""Studies: the same training with several seeds, and every combination of conv and dense blocks."""

from __future__ import annotations

import functools

import luigi
from luigi.util import inherits

from pipeline.datasets.folders import path_name
from pipeline.errors import BadInput
from pipeline.recipes import settings
from pipeline.recipes.base import LESSON_BLOCKS, LESSON_DENSE_BLOCKS
from pipeline.recipes.schemes import SCHEMES
from pipeline.storage import layout
from pipeline.storage.publishing import publish_manifest
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import SettingsParameter, WholeNumber, WholeNumbers
from tasks.recipes import wanted_schemes
from tasks.reports import ReportTask
from tasks.task import Task
from tasks.training import TrainFromScratch, training_task

SEEDS = WholeNumbers(default=(0, 1, 2), description="seeds by commas")
CONV, DENSE = "conv block", "dense block"


class _Study(ReportTask):
    """Runs that differ in some words and in their seed."""

    by: tuple[str, ...]

    @functools.cached_property
    def parts(self) -> list[tuple[dict[str, str], Task]]:
        """The words that tell a run from others, and its task, seeds innermost."""
        raise NotImplementedError

    @functools.cached_property
    def fingerprint(self) -> dict:
        """The runs and the words for them."""
        return {"runs": [[words, task.fingerprint] for words, task in self.parts]}

    @property
    def sources(self) -> list[Task]:
        """The runs."""
        return [task for _, task in self.parts]

    @property
    def wanted_seeds(self) -> tuple[int, ...]:
        """The seeds, each once; raises BadInput where there is none."""
        if not self.seeds:
            raise BadInput("--seeds: expected at least one whole number, received none")
        return tuple(dict.fromkeys(self.seeds))

    def publish(self, function: str) -> None:
        """Write the report of the runs with a function of pipeline.report.study_reports."""
        runs = [(words, task.folder) for words, task in self.parts]
        name = f"pipeline.report.study_reports:{function}"
        files = self.in_process(name, folder=self.folder, runs=runs, by=self.by)
        publish_manifest(self.folder, self.fingerprint, files, self.facts)

    def subset_words(self) -> str:
        """Return what a folder's name says of a subset."""
        return f"-{self.subset}" if self.subset else ""


@inherits(PrepareDataset, DownloadWeights)
class CompareSeeds(_Study):
    """Train schemes with several seeds: mean, interval over seeds, and accuracy over time.

    seeds.csv has a row a run; seeds.md, seeds.png and curves.png are made from it and from the histories.
    """

    schemes = luigi.Parameter(default="from-scratch:fast", description="schemes by commas")
    seeds = SEEDS
    settings = SettingsParameter(
        default={}, description='settings by scheme, such as {"from-scratch:fast": {"fit_on": "train+val"}}'
    )
    precision = ExtractFeatures.precision
    by = ("variant",)

    @functools.cached_property
    def parts(self) -> list[tuple[dict[str, str], Task]]:
        """Every scheme with every seed."""
        return [
            ({"variant": text}, self.clone(training_task(scheme.name), recipe=name, seed=seed, **given))
            for text, scheme, name, given in wanted_schemes(self.schemes, self.settings)
            for seed in self.wanted_seeds
        ]

    @property
    def place(self) -> str:
        return f"{layout.folder_of('seeds')}/{path_name(self.dataset)}{self.subset_words()}"

    def make(self) -> None:
        self.publish("publish_seeds")


@inherits(PrepareDataset)
class BlockStudy(_Study):
    """Train every conv block with every dense block under one budget: which block is worth what.

    blocks.csv has a row a run; blocks.md and blocks.png show each combination, and each block against the
    mean of all, with intervals over the seeds. All runs have the same images, epochs and optimiser.
    """

    subset = WholeNumber(default=6_000, description="images in a stratified subset, 0 for all")
    conv_blocks = luigi.Parameter(
        default="; ".join(LESSON_BLOCKS.values()), description="conv blocks in the notation, by semicolons"
    )
    dense_blocks = luigi.Parameter(
        default="; ".join(LESSON_DENSE_BLOCKS.values()),
        description="dense blocks in the notation, by semicolons",
    )
    seeds = SEEDS
    settings = SettingsParameter(
        default={"epochs": 8, "learning_rate": 1e-3},
        description="what all runs share, other than the lesson's recipe has it",
    )
    precision = ExtractFeatures.precision
    by = (CONV, DENSE)

    @functools.cached_property
    def parts(self) -> list[tuple[dict[str, str], Task]]:
        """Every conv block with every dense block and every seed."""
        given = settings.plain(self.settings)
        own = [name for name in ("conv_blocks", "dense_blocks") if name in given]
        if own:
            raise BadInput(f"--settings: expected no {own[0]}, which --{own[0].replace('_', '-')} has")
        SCHEMES["from-scratch"].recipe("lesson", given)
        return [
            (
                {CONV: conv, DENSE: dense},
                self.clone(TrainFromScratch, seed=seed, conv_blocks=conv, dense_blocks=dense, **given),
            )
            for conv in _listed(self.conv_blocks, "conv-blocks")
            for dense in _listed(self.dense_blocks, "dense-blocks")
            for seed in self.wanted_seeds
        ]

    @property
    def place(self) -> str:
        return f"{layout.folder_of('blocks')}/{path_name(self.dataset)}{self.subset_words()}"

    def make(self) -> None:
        self.publish("publish_blocks")


def _listed(texts: str, flag: str) -> list[str]:
    found = list(dict.fromkeys(text.strip() for text in texts.split(";") if text.strip()))
    if not found:
        raise BadInput(f"--{flag}: expected at least one block, received {texts!r}")
    return found
