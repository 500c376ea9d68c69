"""Which differences between schemes are real, in words; made of the rows of paired_differences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.formatting import format_value, markdown_table
from pipeline.results.paired import LEVEL, RESAMPLES
from pipeline.runs.result import label_of

NAMED = 3  # a sentence that lists more names is no longer read
NO_PAIR = "No two schemes were tested on the same images: there is no difference to test."
TEST = "McNemar's exact test"
HEADER = (
    "scheme", "accuracy", "points ahead of the next (95 % interval)", "p after Holm", "not told apart from",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What is said of a pair: difference a - b with its interval, fractions, and p after Holm."""

    difference: float
    low: float
    high: float
    p: float
    real: bool


@dataclass(frozen=True)
class Ranking:
    """The schemes of one data set, most accurate first, and the verdict on every two of them.

    accuracies maps a scheme's label to its mean accuracy; verdicts maps (label, label), better one first.
    """

    data_set: str
    images: int
    seeds: int
    accuracies: dict[str, float]
    verdicts: dict[tuple[str, str], Verdict]

    def rivals(self, label: str) -> list[str]:
        """Return the schemes that label is not told apart from, most accurate first."""
        pairs = [pair for pair, verdict in self.verdicts.items() if label in pair and not verdict.real]
        unsure = {name for pair in pairs for name in pair} - {label}
        return [name for name in self.accuracies if name in unsure]


def rankings(differences: pd.DataFrame) -> list[Ranking]:
    """Return the ranking of each data set in turn; a data set with one scheme has none."""
    found = []
    for title, rows in differences.groupby("data_set", sort=False):
        accuracies: dict[str, float] = {}
        verdicts: dict[tuple[str, str], Verdict] = {}
        for row in rows.to_dict("records"):  # in the order of accuracy
            a, b = (label_of(row[f"scheme_{side}"], row[f"weights_{side}"]) for side in "ab")
            accuracies |= {a: row["accuracy_a"], b: row["accuracy_b"]}
            real = bool(row["real"])
            verdicts[a, b] = Verdict(row["difference"], row["low"], row["high"], row["p_holm"], real)
        seeds = int(rows[["seeds_a", "seeds_b"]].to_numpy().max())
        found.append(Ranking(str(title), int(rows["n"].iloc[0]), seeds, accuracies, verdicts))
    return found


def verdict_sentence(ranking: Ranking) -> str:
    """Return how many differences are real, on how many images and by which test."""
    pairs = len(ranking.verdicts)
    where = f"on the same {ranking.images:,} test images of {ranking.data_set}"
    if pairs == 1:
        (verdict,) = ranking.verdicts.values()
        points = f"{signed(verdict.difference)} points ({span(verdict.low, verdict.high)})"
        said = "real" if verdict.real else "not real"
        return f"The difference {where} is {said}: {points}, p {shown_p(verdict.p)} in {TEST}."
    real = sum(verdict.real for verdict in ranking.verdicts.values())
    which = {0: "None", 1: "One", pairs: "All"}.get(real, f"{real}")
    are = "is" if real <= 1 else "are"
    test = f"p < {LEVEL:g} in {TEST} with Holm's correction"
    return f"{which} of the {pairs} differences {where} {are} real at {test}."


def rivals_sentence(ranking: Ranking, label: str) -> str:
    """Return whether the paired test tells label apart from all others, naming at most three it does not."""
    names = ranking.rivals(label)
    if not names:
        return "the paired test tells it apart from every other scheme"
    more = len(names) - NAMED
    listed = [*names[:NAMED], f"{more} more"] if more > 0 else names
    return f"the paired test does not tell it apart from {enumerated(listed)}: chance may have put it first"


def verdicts_markdown(differences: pd.DataFrame) -> str:
    """Return the section of a comparison: for each data set a sentence and a row a scheme, then a note."""
    parts, found = ["## Which differences are real"], rankings(differences)
    for ranking in found:
        parts += [verdict_sentence(ranking), markdown_table(HEADER, _ranked_rows(ranking))]
    if not found:
        return "\n\n".join([*parts, NO_PAIR])
    parts.append(note(max(ranking.seeds for ranking in found)))
    return "\n\n".join([*parts, "Numbers in the last column are places; differences.png shows all pairs."])


def verdicts_text(differences: pd.DataFrame, width: int) -> str:
    """Return the same for a terminal, at most width columns: a sentence, and what is not told apart."""
    lines = []
    for ranking in rankings(differences):
        unsure: dict[str, list[str]] = {}
        for (a, b), verdict in ranking.verdicts.items():
            if not verdict.real and len(ranking.verdicts) > 1:  # of a single pair the sentence says it all
                unsure.setdefault(a, []).append(f"{b} ({signed(verdict.difference)})")
        sentence = verdict_sentence(ranking)
        lines += textwrap.wrap(f"{sentence} Not told apart:" if unsure else sentence, width)
        for a, others in unsure.items():
            line = f"{a} from {enumerated(others)}"
            lines += textwrap.wrap(line, width, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines or [NO_PAIR])


def signed(difference: float) -> str:
    """Return a difference of fractions in points with its sign: "+1.2", "−0.4", "0.0"."""
    points = f"{abs(100 * difference):.1f}"
    if float(points) == 0:
        return points
    return f"{'+' if difference > 0 else '−'}{points}"


def span(low: float, high: float) -> str:
    """Return an interval of differences in points: "0.4 to 2.0", "−0.3 to 0.5"."""
    return " to ".join(signed(end).removeprefix("+") for end in (low, high))


def shown_p(p: float) -> str:
    """Return a p value for people: "< 0.001", "= 0.012", "= 1.000"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def enumerated(names: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _ranked_rows(ranking: Ranking) -> list[list[str]]:
    names = list(ranking.accuracies)
    places = {name: str(place) for place, name in enumerate(names, start=1)}
    rows = []
    for name, following in zip(names, [*names[1:], ""], strict=True):
        numbers = ["–", "–"]
        if ahead := ranking.verdicts.get((name, following)):
            points = f"{signed(ahead.difference)} ({span(ahead.low, ahead.high)})"
            numbers = [points, shown_p(ahead.p).removeprefix("= ")]
        rivals = ", ".join(places[rival] for rival in ranking.rivals(name)) or "–"
        rows.append(
            [f"{places[name]}. {name}", format_value(ranking.accuracies[name], "%"), *numbers, rivals]
        )
    return rows


def note(seeds: int) -> str:
    """Return how the verdicts on runs with so many seeds a scheme are to be read."""
    said = (
        f"A difference is real where p < {LEVEL:g} in {TEST}, after Holm's correction over the pairs, and "
        f"its interval leaves 0 out. Intervals are paired-bootstrap percentiles over {RESAMPLES:,} resamples "
        "of the test images, each for its pair alone. Both speak of these trained runs on other images of "
        "the kind, not of what other seeds would have given. "
    )
    if seeds > 1:
        said += (
            "A scheme's accuracy is the mean over its seeds; the test counts an image for the scheme "
            "that is right on it with more of its seeds. "
        )
    return f"{said}Every pair is in differences.csv."
