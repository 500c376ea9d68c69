"""Reports of several runs of the same training: over seeds, and over blocks and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.formatting import shown_seconds
from pipeline.report.figure import publish_figure
from pipeline.report.replicate_plots import draw_blocks, draw_curves, draw_replicates
from pipeline.results.comparison import caption_of
from pipeline.results.replicates import (
    COLUMNS,
    effects,
    effects_markdown,
    replicate_row,
    runs_markdown,
    summarise,
    summary_markdown,
)
from pipeline.runs.result import RunResult, read_run
from pipeline.storage.publishing import publish_csv, publish_text

Runs = Sequence[tuple[dict[str, str], Path]]  # the words that tell a run from others, and its folder

NOTE = "Intervals are Student's over the seeds; what the test images leave open is in each run's own."


def publish_seeds(folder: Path, runs: Runs, by: Sequence[str]) -> list[str]:
    """Write seeds.csv, seeds.md, seeds.png and curves.png to folder; return their names."""
    results, table = _read(runs, by)
    caption, histories = caption_of(results), {}
    for (words, _), run in zip(runs, results, strict=True):
        histories.setdefault(" · ".join(words.values()), []).append(run.history)
    parts = [summary_markdown(summarise(table, [*by]), [*by]), "## Each run", runs_markdown(table, [*by])]
    publish_csv(folder / "seeds.csv", table)
    publish_text(folder / "seeds.md", _page("Several seeds", caption, parts))
    publish_figure(folder / "seeds.png", draw_replicates, table, "Accuracy over several seeds", caption)
    publish_figure(folder / "curves.png", draw_curves, histories, caption)
    return ["seeds.csv", "seeds.md", "seeds.png", "curves.png"]


def publish_blocks(folder: Path, runs: Runs, by: Sequence[str]) -> list[str]:
    """Write blocks.csv, blocks.md and blocks.png to folder; return their names."""
    results, table = _read(runs, by)
    summary = summarise(table, [*by]).sort_values("accuracy", ascending=False)
    parts = [summary_markdown(summary, [*by])]
    for factor in by:
        parts += [f"## {factor.capitalize()}s", effects_markdown(effects(table, factor), factor)]
    took = shown_seconds(table["train_seconds"].sum())
    budget = f"{len(table)} runs of {table['epochs'].iloc[0]} epochs in {took} · {caption_of(results)}"
    publish_csv(folder / "blocks.csv", table)
    publish_text(folder / "blocks.md", _page("Which block is worth what", budget, parts))
    title = "Which block is worth what"
    publish_figure(folder / "blocks.png", draw_blocks, table, tuple(by), title, budget)
    return ["blocks.csv", "blocks.md", "blocks.png"]


def _read(runs: Runs, by: Sequence[str]) -> tuple[list[RunResult], pd.DataFrame]:
    results = [read_run(folder) for _, folder in runs]
    rows = [{**words, **replicate_row(run)} for (words, _), run in zip(runs, results, strict=True)]
    return results, pd.DataFrame(rows, columns=[*by, *COLUMNS])


def _page(title: str, caption: str, parts: list[str]) -> str:
    return "\n\n".join([f"# {title}", *parts, f"{NOTE} {caption}."]) + "\n"
