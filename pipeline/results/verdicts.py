"""Which differences between schemes are significant, in sentences and tables, from paired_differences."""

import textwrap
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.formatting import format_ci, format_p, format_points, format_value, join_names, markdown_table
from pipeline.results.paired import ALPHA, RESAMPLES
from pipeline.runs.result import LABELED, label_of

MAX_LISTED = 3  # a sentence that lists more names is hard to read
NO_PAIRS = "No two schemes were tested on the same images, so there are no differences to test."
TEST = "McNemar's exact test"
LEAD, TIES = "lead over the next, points (95 % CI)", "no significant difference from"


@dataclass(frozen=True)
class Ranking:
    """The schemes of a comparison, most accurate first, and the verdict on every pair.

    images is the number of test images, seeds the largest number of seeds of a scheme. accuracies maps a
    scheme's label to its mean accuracy; verdicts maps (label, label), better one first, to the row of the
    table of differences.
    """

    data_set: str
    images: int
    seeds: int
    accuracies: dict[str, float]
    verdicts: dict[tuple[str, str], Any]

    def ties(self, label: str) -> list[str]:
        """Return the schemes that do not differ significantly from label, most accurate first."""
        pairs = [pair for pair, verdict in self.verdicts.items() if not verdict.real]
        tied = {name for pair in pairs if label in pair for name in pair} - {label}
        return [name for name in self.accuracies if name in tied]


def ranking_of(differences: pd.DataFrame) -> Ranking | None:
    """Return the ranking of the schemes in a table of differences; None for a single scheme."""
    if differences.empty:
        return None
    accuracies: dict[str, float] = {}
    verdicts: dict[tuple[str, str], Any] = {}
    row: Any
    for row in differences.itertuples(index=False):  # sorted by accuracy
        a, b = (label_of(*(getattr(row, f"{name}_{side}") for name in LABELED)) for side in "ab")
        accuracies |= {a: row.accuracy_a, b: row.accuracy_b}
        verdicts[a, b] = row
    seeds = int(differences[["seeds_a", "seeds_b"]].to_numpy().max())
    return Ranking(row.data_set, row.n, seeds, accuracies, verdicts)


def verdict_sentence(ranking: Ranking) -> str:
    """Return a sentence: how many differences are significant, on how many images, by which test."""
    pairs = len(ranking.verdicts)
    images = f"the same {ranking.images:,} test images of {ranking.data_set}"
    if pairs == 1:
        (verdict,) = ranking.verdicts.values()
        points = f"{format_points(verdict.difference)} points ({format_ci(verdict.low, verdict.high)})"
        outcome = "significant" if verdict.real else "not significant"
        return f"The difference on {images} is {outcome}: {points}, p {format_p(verdict.p_holm)} in {TEST}."
    count = sum(verdict.real for verdict in ranking.verdicts.values())
    subject = {0: "None", 1: "One", pairs: "All"}.get(count, f"{count}")
    verb = "is" if count <= 1 else "are"
    test = f"p < {ALPHA:g} in {TEST} with Holm's correction"
    return f"{subject} of the {pairs} differences on {images} {verb} significant ({test})."


def ties_sentence(ranking: Ranking, label: str) -> str:
    """Return a clause: which schemes label does not differ significantly from, naming at most three."""
    ties = ranking.ties(label)
    if not ties:
        return "it differs significantly from every other scheme in the paired test"
    more = len(ties) - MAX_LISTED
    names = [*ties[:MAX_LISTED], f"{more} more"] if more > 0 else ties
    return f"it does not differ significantly from {join_names(names)} in the paired test"


def verdicts_markdown(differences: pd.DataFrame) -> str:
    """Return the Markdown section: a sentence, a row for each scheme, and a note."""
    ranking, heading = ranking_of(differences), "## Significant differences"
    if ranking is None:
        return f"{heading}\n\n{NO_PAIRS}"
    names, rows = list(ranking.accuracies), []
    ranks = {name: str(rank) for rank, name in enumerate(names, start=1)}
    for name, following in zip(names, [*names[1:], ""], strict=True):
        lead, p = "–", "–"
        if verdict := ranking.verdicts.get((name, following)):
            lead = f"{format_points(verdict.difference)} ({format_ci(verdict.low, verdict.high)})"
            p = format_p(verdict.p_holm).removeprefix("= ")
        ties = ", ".join(ranks[tie] for tie in ranking.ties(name)) or "–"
        rows.append([f"{ranks[name]}. {name}", format_value(ranking.accuracies[name], "%"), lead, p, ties])
    table = markdown_table(["scheme", "accuracy", LEAD, "p (Holm)", TIES], rows)
    note = "The last column gives ranks; differences.csv has all pairs."
    return "\n\n".join([heading, verdict_sentence(ranking), table, method_note(ranking), note])


def verdicts_text(differences: pd.DataFrame, width: int) -> str:
    """Return the terminal version, at most width columns: a sentence, and three lines of pairs that tie."""
    ranking = ranking_of(differences)
    if ranking is None:
        return NO_PAIRS
    lines = textwrap.wrap(verdict_sentence(ranking), width)
    ties = [
        f"{a} vs. {b} ({format_points(verdict.difference)})"
        for (a, b), verdict in ranking.verdicts.items()
        if not verdict.real
    ]
    if ties and len(ranking.verdicts) > 1:  # the sentence covers a single pair
        text = f"Not significant: {'; '.join(ties)}"
        lines += textwrap.wrap(text, width, max_lines=3, placeholder=" … (all pairs: differences.csv)")
    return "\n".join(lines)


def method_note(ranking: Ranking) -> str:
    """Return how to read the verdicts."""
    text = (
        f"A difference is significant if p < {ALPHA:g} in {TEST} with Holm's correction over all pairs and "
        f"its confidence interval excludes 0. Intervals are paired-bootstrap percentiles over {RESAMPLES:,} "
        "resamples of the test images, not corrected for the number of pairs. Both describe how these "
        "trained models would compare on other test images, not how other seeds would turn out. "
    )
    if ranking.seeds > 1:
        text += (
            "A scheme's accuracy is the mean over its seeds; the test counts an image for the scheme "
            "that classifies it correctly with more of its seeds. "
        )
    return f"{text}differences.csv lists all pairs."
