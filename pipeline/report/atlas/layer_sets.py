"""The layer sets that an atlas probes: single blocks and concatenations of adjacent blocks."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.recipes.heads import HEADS

LOGISTIC, KNN = "logistic", "knn"
PROBES = {  # rows of HEADS, each with the setting that is tuned for every layer set, and its values
    # C of scikit-learn's LogisticRegression, strongest penalty first, two values per decade.
    LOGISTIC: ("c", (1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1, 3.16e-1, 1.0, 3.16, 10.0)),
    KNN: ("neighbours", HEADS[KNN].space["neighbours"]),
}


@dataclass(frozen=True)
class LayerSet:
    """Layers that are concatenated, in network order, and the numbers of their blocks, counted from 1."""

    layers: tuple[str, ...]
    blocks: tuple[int, ...]

    @property
    def depth(self) -> int:
        """The number of the deepest block, up to which the backbone must run."""
        return self.blocks[-1]

    @property
    def name(self) -> str:
        """The name in tables: "2" or "2+3+4"."""
        return "+".join(map(str, self.blocks))


def layer_sets(taps: tuple[str, ...]) -> list[LayerSet]:
    """Return the layer sets of a backbone: single blocks, the first blocks together, the last together.

    For 5 blocks: 1, 2, 3, 4, 5; 1+2, 1+2+3, 1+2+3+4, 1+2+3+4+5; 2+3+4+5, 3+4+5, 4+5. The first blocks are
    all that an extraction up to some block computes; the last blocks are what heads usually read.
    """
    last = len(taps)
    spans = [(block, block) for block in range(1, last + 1)]
    spans += [(1, block) for block in range(2, last + 1)]
    spans += [(block, last) for block in range(2, last)]
    return [LayerSet(taps[first - 1 : end], tuple(range(first, end + 1))) for first, end in spans]


def short_name(blocks: str) -> str:
    """Return the name of a layer set for display: "2", "2+3", but "2–5" for "2+3+4+5"."""
    numbers = blocks.split("+")
    return blocks if len(numbers) < 3 else f"{numbers[0]}–{numbers[-1]}"
