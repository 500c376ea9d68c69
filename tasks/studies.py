"""The tasks that compare seeds of the same run and combinations of conv and dense blocks."""

import functools
from typing import Any, ClassVar

import luigi

from pipeline.errors import BadInput
from pipeline.recipes import settings
from pipeline.recipes.base import LESSON_BLOCKS, LESSON_DENSE_BLOCKS
from pipeline.recipes.schemes import SCHEMES
from tasks.data import DataTask
from tasks.features import ExtractFeatures, NetworkTask
from tasks.parameters import SettingsParameter, WholeNumber, WholeNumbers
from tasks.recipes import parse_schemes
from tasks.task import DerivedTask, Task
from tasks.training import TrainFromScratch, training_task

CONV, DENSE = "conv block", "dense block"


class StudyTask(DataTask, DerivedTask):
    """A report on runs that differ in the factors `by` and in their seed."""

    by: ClassVar[tuple[str, ...]]  # names of the factors
    report: ClassVar[str]  # the function that writes the report
    seeds = WholeNumbers(default=(0, 1, 2), description="comma-separated seeds")

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The runs with their factors."""
        return {"runs": [[factors, task.fingerprint] for factors, task in self.shown]}

    @property
    def label(self) -> str:
        return self.prepared.label

    @property
    def unique_seeds(self) -> tuple[int, ...]:
        """The seeds, each once; raises BadInput if there are none."""
        if not self.seeds:
            raise BadInput("--seeds: expected at least one whole number, received none")
        return tuple(dict.fromkeys(self.seeds))

    def make(self) -> None:
        runs = [(factors, task.folder) for factors, task in self.shown]
        self.publish(self.in_process(self.report, folder=self.folder, runs=runs, by=self.by))


class CompareSeeds(NetworkTask, StudyTask):
    """Train schemes with several seeds and report means, intervals over seeds, and accuracy over time.

    seeds.csv has one row per run; seeds.md, seeds.png and curves.png summarize it and the histories.
    """

    kind, by, report = "seeds", ("variant",), "pipeline.report.study_reports:publish_seeds"
    schemes = luigi.Parameter(default="from-scratch:fast", description="comma-separated schemes")
    settings = SettingsParameter(
        default={}, description='settings by scheme, such as {"from-scratch:fast": {"fit_on": "train+val"}}'
    )

    @functools.cached_property
    def shown(self) -> list[tuple[dict[str, str], Task]]:
        """Every scheme with every seed."""
        return [
            ({"variant": text}, self.clone(training_task(scheme.name), recipe=name, seed=seed, **values))
            for text, scheme, name, values in parse_schemes(self.schemes, self.settings)
            for seed in self.unique_seeds
        ]


class BlockStudy(StudyTask):
    """Train every conv block with every dense block and report the effect of each block on accuracy.

    blocks.csv has one row per run; blocks.md and blocks.png show each combination, and the effect of each
    block relative to the mean, with intervals over seeds. All runs use the same images, epochs and optimizer.
    """

    kind, by, report = "blocks", (CONV, DENSE), "pipeline.report.study_reports:publish_blocks"
    subset = WholeNumber(default=6_000, description="images in a stratified subset, 0 for all")
    conv_blocks = luigi.Parameter(
        default="; ".join(LESSON_BLOCKS.values()),
        description="conv blocks in the notation, separated by semicolons",
    )
    dense_blocks = luigi.Parameter(
        default="; ".join(LESSON_DENSE_BLOCKS.values()),
        description="dense blocks in the notation, separated by semicolons",
    )
    settings = SettingsParameter(
        default={"epochs": 8, "learning_rate": 1e-3},
        description="settings of all runs that differ from the recipe lesson",
    )
    precision = ExtractFeatures.precision
    input_size = ExtractFeatures.input_size

    @functools.cached_property
    def shown(self) -> list[tuple[dict[str, str], Task]]:
        """Every conv block with every dense block and every seed."""
        values, blocks = settings.plain(self.settings), dict[str, list[str]]()
        for name in ("conv_blocks", "dense_blocks"):
            flag, texts = f"--{name.replace('_', '-')}", getattr(self, name)
            if name in values:
                raise BadInput(f"--settings: expected no {name}; set {flag} instead")
            blocks[name] = list(dict.fromkeys(text.strip() for text in texts.split(";") if text.strip()))
            if not blocks[name]:
                raise BadInput(f"{flag}: expected at least one block, received {texts!r}")
        SCHEMES["from-scratch"].recipe("lesson", values)  # raises BadInput
        return [
            (
                {CONV: conv, DENSE: dense},
                self.clone(TrainFromScratch, seed=seed, conv_blocks=conv, dense_blocks=dense, **values),
            )
            for conv in blocks["conv_blocks"]
            for dense in blocks["dense_blocks"]
            for seed in self.unique_seeds
        ]
