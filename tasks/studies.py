"""Studies: the same training with several seeds, and every combination of conv and dense blocks."""

from __future__ import annotations

import functools

import luigi
from luigi.util import inherits

from pipeline.datasets.folders import path_name
from pipeline.errors import BadInput
from pipeline.results.comparison import caption_of, shown_seconds
from pipeline.results.replicate_plots import draw_blocks, draw_curves, draw_replicates
from pipeline.results.replicates import (
    COLUMNS,
    effects,
    effects_markdown,
    replicate_row,
    runs_markdown,
    summarise,
    summary_markdown,
)
from pipeline.results.run import read_run
from pipeline.training import settings
from pipeline.training.recipes import LESSON_BLOCKS, LESSON_DENSE_BLOCKS
from pipeline.training.schemes import SCHEMES
from tasks.data import DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.parameters import SettingsParameter, WholeNumber, WholeNumbers
from tasks.recipes import wanted_schemes
from tasks.reports import ReportTask
from tasks.task import Task
from tasks.training import TrainFromScratch, training_task

SEEDS = WholeNumbers(default=(0, 1, 2), description="seeds by commas")
CONV, DENSE = "conv block", "dense block"
NOTE = "Intervals are Student's over the seeds; what the test images leave open is in each run's own."


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

    def results(self) -> tuple:
        """Return the runs' table, their histories by variant, and the caption."""
        import pandas as pd

        rows, histories, runs = [], {}, []
        for words, task in self.parts:
            run = read_run(task.folder)
            runs.append(run)
            rows.append({**words, **replicate_row(run)})
            histories.setdefault(" · ".join(words.values()), []).append(run.history)
        return pd.DataFrame(rows, columns=[*self.by, *COLUMNS]), histories, caption_of(runs)

    def page(self, title: str, caption: str, *parts: str) -> str:
        """Return a Markdown page."""
        return "\n\n".join([f"# {title}", *parts, f"{NOTE} {caption}."]) + "\n"

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
        return f"reports/seeds/{path_name(self.dataset)}{self.subset_words()}"

    def make(self) -> None:
        table, histories, caption = self.results()
        page = self.page(
            "Several seeds", caption, summary_markdown(summarise(table, ["variant"]), ["variant"]),
            "## Each run", runs_markdown(table, ["variant"]),
        )  # fmt: skip
        self.publish(
            tables={"seeds.csv": table},
            texts={"seeds.md": page},
            figures={
                "seeds.png": (draw_replicates, table, "Accuracy over several seeds", caption),
                "curves.png": (draw_curves, histories, caption),
            },
        )


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
        return f"reports/blocks/{path_name(self.dataset)}{self.subset_words()}"

    def make(self) -> None:
        table, _, caption = self.results()
        summary = summarise(table, [*self.by]).sort_values("accuracy", ascending=False)
        parts = [summary_markdown(summary, [*self.by])]
        for factor in self.by:
            parts += [f"## {factor.capitalize()}s", effects_markdown(effects(table, factor), factor)]
        took = shown_seconds(table["train_seconds"].sum())
        budget = f"{len(table)} runs of {table['epochs'].iloc[0]} epochs in {took} · {caption}"
        self.publish(
            tables={"blocks.csv": table},
            texts={"blocks.md": self.page("Which block is worth what", budget, *parts)},
            figures={"blocks.png": (draw_blocks, table, self.by, "Which block is worth what", budget)},
        )


def _listed(texts: str, flag: str) -> list[str]:
    found = list(dict.fromkeys(text.strip() for text in texts.split(";") if text.strip()))
    if not found:
        raise BadInput(f"--{flag}: expected at least one block, received {texts!r}")
    return found
