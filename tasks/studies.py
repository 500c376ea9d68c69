"""Studies: the same training with several seeds, and every combination of conv and dense blocks."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import luigi
from luigi.util import inherits

from pipeline.errors import BadInput
from pipeline.recipes import settings
from pipeline.recipes.base import LESSON_BLOCKS, LESSON_DENSE_BLOCKS
from pipeline.recipes.schemes import SCHEMES
from tasks.data import DataTask, DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import SettingsParameter, WholeNumber, WholeNumbers
from tasks.recipes import wanted_schemes
from tasks.task import DerivedTask, Task
from tasks.training import TrainFromScratch, training_task

CONV, DENSE = "conv block", "dense block"


class StudyTask(DataTask, DerivedTask):
    """Runs that differ in some words and in their seed."""

    by: ClassVar[tuple[str, ...]]  # the words
    report: ClassVar[str]  # the function that writes it
    seeds = WholeNumbers(default=(0, 1, 2), description="seeds by commas")

    @functools.cached_property
    def parts(self) -> list[tuple[dict[str, str], Task]]:
        """The words that tell a run from others, and its task, seeds innermost."""
        raise NotImplementedError

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The runs and the words for them."""
        return {"runs": [[words, task.fingerprint] for words, task in self.parts]}

    @property
    def label(self) -> str:
        return self.prepared.label

    @property
    def sources(self) -> list[Task]:
        return [task for _, task in self.parts]

    @property
    def wanted_seeds(self) -> tuple[int, ...]:
        """The seeds, each once; raises BadInput where there is none."""
        if not self.seeds:
            raise BadInput("--seeds: expected at least one whole number, received none")
        return tuple(dict.fromkeys(self.seeds))

    def make(self) -> None:
        runs = [(words, task.folder) for words, task in self.parts]
        self.publish(self.in_process(self.report, folder=self.folder, runs=runs, by=self.by))


@inherits(PrepareDataset, DownloadWeights)
class CompareSeeds(StudyTask):
    """Train schemes with several seeds: mean, interval over seeds, and accuracy over time.

    seeds.csv has a row a run; seeds.md, seeds.png and curves.png are made from it and from the histories.
    """

    kind, by, report = "seeds", ("variant",), "pipeline.report.study_reports:publish_seeds"
    schemes = luigi.Parameter(default="from-scratch:fast", description="schemes by commas")
    settings = SettingsParameter(
        default={}, description='settings by scheme, such as {"from-scratch:fast": {"fit_on": "train+val"}}'
    )
    precision = ExtractFeatures.precision

    @functools.cached_property
    def parts(self) -> list[tuple[dict[str, str], Task]]:
        """Every scheme with every seed."""
        return [
            ({"variant": text}, self.clone(training_task(scheme.name), recipe=name, seed=seed, **given))
            for text, scheme, name, given in wanted_schemes(self.schemes, self.settings)
            for seed in self.wanted_seeds
        ]


@inherits(PrepareDataset)
class BlockStudy(StudyTask):
    """Train every conv block with every dense block under one budget: which block is worth what.

    blocks.csv has a row a run; blocks.md and blocks.png show each combination, and each block against the
    mean of all, with intervals over the seeds. All runs have the same images, epochs and optimiser.
    """

    kind, by, report = "blocks", (CONV, DENSE), "pipeline.report.study_reports:publish_blocks"
    subset = WholeNumber(default=6_000, description="images in a stratified subset, 0 for all")
    conv_blocks = luigi.Parameter(
        default="; ".join(LESSON_BLOCKS.values()), description="conv blocks in the notation, by semicolons"
    )
    dense_blocks = luigi.Parameter(
        default="; ".join(LESSON_DENSE_BLOCKS.values()),
        description="dense blocks in the notation, by semicolons",
    )
    settings = SettingsParameter(
        default={"epochs": 8, "learning_rate": 1e-3},
        description="what all runs share, other than the lesson's recipe has it",
    )
    precision = ExtractFeatures.precision

    @functools.cached_property
    def parts(self) -> list[tuple[dict[str, str], Task]]:
        """Every conv block with every dense block and every seed."""
        given = settings.plain(self.settings)
        for name in ("conv_blocks", "dense_blocks"):
            if name in given:
                raise BadInput(f"--settings: expected no {name}, which --{name.replace('_', '-')} has")
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


def _listed(texts: str, flag: str) -> list[str]:
    found = list(dict.fromkeys(text.strip() for text in texts.split(";") if text.strip()))
    if not found:
        raise BadInput(f"--{flag}: expected at least one block, received {texts!r}")
    return found
