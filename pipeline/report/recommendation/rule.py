"""The rule that chooses input size, layers and cut from probes.

Accuracies are compared on the same images. "Close" means within one standard error of the difference, as in
the one-standard-error rule of Breiman et al., Classification and Regression Trees (1984), chapter 3.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.formatting import format_points, format_value
from pipeline.report.recommendation.probe import Probe

LARGEST_LOSS = 0.01  # of accuracy, that a size below the images' own may cost
ONE_SIDED_95 = 1.645  # standard errors
RULE = (
    "The input size is the smallest from the images' own size up whose best join of layers is close to the "
    "best of all, where close means within one standard error of the difference. A size below the images' "
    "own is taken only if it is certain (95 %) to lose less than 1 point. Of the joins close to the best at "
    "that size, the one up to the earliest block is taken. Blocks are frozen up to the deepest that is by "
    "itself close to the best single block, but the last block is always trained. Test images are not used."
)


@dataclass(frozen=True)
class Choice:
    """The recommended input size in pixels, blocks to join, and number of blocks to freeze, with reasons."""

    input_size: int
    blocks: tuple[int, ...]
    freeze_through: int
    reasons: tuple[str, ...]


def difference(best: Probe, other: Probe) -> tuple[float, float]:
    """Return how much more accurate best is than other on the same images, and its standard error.

    The standard error is that of paired proportions with half an image added to each cell of their table
    (Agresti and Min, Statistics in Medicine 24, 2005), so that it is not 0 when all images agree.
    """
    wins = int((best.correct & ~other.correct).sum()) + 0.5
    losses = int((~best.correct & other.correct).sum()) + 0.5
    n = len(best.correct) + 2
    return best.accuracy - other.accuracy, math.sqrt(wins + losses - (wins - losses) ** 2 / n) / n


def is_close(best: Probe, other: Probe) -> bool:
    """Return whether other is within one standard error of best."""
    loss, error = difference(best, other)
    return loss <= error


def best_of(probes: Iterable[Probe]) -> Probe:
    """Return the most accurate probe; the first in a tie."""
    return max(probes, key=lambda probe: probe.accuracy)


def choose(probes: Sequence[Probe], own_size: int) -> Choice:
    """Return the choice for probes of several sizes, smallest first; own_size is that of the images."""
    best = best_of(probes)
    size = choose_size(probes, own_size)
    at_size = [probe for probe in probes if probe.input_size == size]
    best_join = best_of(at_size)
    close = [probe for probe in at_size if is_close(best_join, probe)]
    earliest = min(probe.blocks[-1] for probe in close)
    join = best_of(probe for probe in close if probe.blocks[-1] == earliest)
    singles = [probe for probe in at_size if len(probe.blocks) == 1]
    single = best_of(singles)
    deepest = max(probe.blocks[0] for probe in singles if is_close(single, probe))
    last = singles[-1].blocks[0]
    through = min(deepest, last - 1)
    reasons = [
        f"{size} px: {_percent(best_join)} with {_blocks(best_join)}"
        + ("." if best_join is best else f"; the best is {_percent(best)} at {best.input_size} px."),
        f"{_blocks(join).capitalize()}: {_percent(join)}, "
        + (
            "the most accurate join."
            if best_join is join
            else f"{format_points(join.accuracy - best_join.accuracy)} points from the most accurate join, "
            f"{_blocks(best_join)}."
        ),
        f"Freeze through block {through}: of single blocks, {_blocks(single)} is best with {_percent(single)}"
        + (
            "; the last block does not lose accuracy, so it is the only one that may need training."
            if deepest == last
            else f", and block {deepest + 1} drops to {_percent(singles[deepest])}, so it and later blocks "
            "should be trained."
        ),
    ]
    return Choice(size, join.blocks, through, tuple(reasons))


def choose_size(probes: Sequence[Probe], own_size: int) -> int:
    """Return the recommended input size."""
    best = best_of(probes)
    for size in sorted({probe.input_size for probe in probes}):
        candidate = best_of(probe for probe in probes if probe.input_size == size)
        loss, error = difference(best, candidate)
        if loss <= error if size >= own_size else loss + ONE_SIDED_95 * error < LARGEST_LOSS:
            return size
    return best.input_size


def short_name(blocks: Sequence[int]) -> str:
    """Return the name of joined blocks: "2", "2+3", but "2–5" for more than two."""
    return "+".join(map(str, blocks)) if len(blocks) < 3 else f"{blocks[0]}–{blocks[-1]}"


def _blocks(probe: Probe) -> str:
    return f"block{'s' * (len(probe.blocks) > 1)} {short_name(probe.blocks)}"


def _percent(probe: Probe) -> str:
    return format_value(probe.accuracy, "%")
