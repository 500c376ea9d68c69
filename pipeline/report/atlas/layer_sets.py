"""The layer sets that an atlas probes: every block alone, and joins of neighbouring blocks."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.recipes.heads import HEADS

LOGISTIC, NEIGHBOURS = "logistic", "knn"
PROBES = {  # rows of HEADS, with the values of the one setting that is chosen for each layer set
    # C of scikit-learn's LogisticRegression, the strongest penalty first, two a decade.
    LOGISTIC: ("c", (1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1, 3.16e-1, 1.0, 3.16, 10.0)),
    NEIGHBOURS: ("neighbours", HEADS[NEIGHBOURS].space["neighbours"]),
}


@dataclass(frozen=True)
class LayerSet:
    """Layers that are joined, in network order, and the numbers of their blocks, counted from 1."""

    layers: tuple[str, ...]
    blocks: tuple[int, ...]

    @property
    def depth(self) -> int:
        """The number of the deepest block, up to which the backbone has to run."""
        return self.blocks[-1]

    @property
    def name(self) -> str:
        """The blocks in tables: "2" or "2+3+4"."""
        return "+".join(map(str, self.blocks))


def layer_sets(taps: tuple[str, ...]) -> list[LayerSet]:
    """Return the sets of a backbone with these taps: blocks alone, joins from the first, joins to the last.

    Of 5 blocks: 1, 2, 3, 4, 5; 1+2, 1+2+3, 1+2+3+4, 1+2+3+4+5; 2+3+4+5, 3+4+5, 4+5. The former are all
    that an extraction up to a block passes on its way, the latter what heads read when all of it is run.
    """
    last = len(taps)
    spans = [(block, block) for block in range(1, last + 1)]
    spans += [(1, block) for block in range(2, last + 1)]
    spans += [(block, last) for block in range(2, last)]
    return [LayerSet(taps[first - 1 : end], tuple(range(first, end + 1))) for first, end in spans]


def short_name(blocks: str) -> str:
    """Return the blocks of a set for people: "2", "2+3", but "2–5" for "2+3+4+5"."""
    numbers = blocks.split("+")
    return blocks if len(numbers) < 3 else f"{numbers[0]}–{numbers[-1]}"
