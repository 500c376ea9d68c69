"""Where an atlas would cut a backbone for fine-tuning, by a rule on val alone, and why, in words.

The rule: of the blocks alone, find those whose logistic regression is as accurate on val as the best one's
95 % interval allows, and cut behind the deepest of them. Blocks up to there have made the classes about as
separable as any block does and can stay frozen; behind it the features lose for this data, so that is what
should move. Where the last block is among them, nothing loses: the cut then leaves the last block to move,
which is the most specific to what the backbone learned before.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pipeline.formatting import shown, shown_interval
from pipeline.report.atlas.layer_sets import LOGISTIC, short_name
from pipeline.results.scores import highest_row, lowest_row

MOVED = "Behind the cut lie {} of the network's multiply-adds, the part that every step trains."
RULE = (
    "The cut lies behind the deepest block alone whose accuracy on val is within the 95 % interval of the "
    "best block's; no test image had a say. It is a rule of thumb from frozen features: how far fine-tuning "
    "gets from there only a run can tell, and more blocks that move may get further, at a higher price."
)


@dataclass(frozen=True)
class Cut:
    """A cut behind a block: freeze_through is its number, words say why."""

    freeze_through: int
    words: str


def choose_cut(table: pd.DataFrame) -> Cut:
    """Return the cut that the rule of this module chooses by an atlas's table."""
    alone = _logistic(table)[lambda rows: rows["blocks"].str.isdecimal()].set_index("depth", drop=False)
    alone = alone.sort_index()
    best = highest_row(alone, "val_accuracy")
    deepest = alone[alone["val_accuracy"] >= best["val_accuracy_low"]].iloc[-1]
    last = int(alone.index[-1])
    through = min(int(deepest["depth"]), last - 1)
    after = None if deepest["depth"] == last else alone.loc[through + 1]
    why = _why_last(deepest, best) if after is None else _why(deepest, best, after)
    moved = shown(1 - alone["multiply_adds_share"].get(through, 0.0), "%")
    return Cut(through, f"Cut behind block {through}: {why}. {MOVED.format(moved)}")


def _why(deepest: pd.Series, best: pd.Series, after: pd.Series) -> str:
    return (
        f"{_reached(deepest, best)}; block {after['depth']} falls to "
        f"{shown(after['val_accuracy'], '%')}. Frozen up to there, the network keeps features that tell the "
        "classes apart about as well as any block's do; the blocks behind lose that and should move"
    )


def _why_last(deepest: pd.Series, best: pd.Series) -> str:
    return (
        f"{_reached(deepest, best)}, so that no block loses what those before it found and a head on frozen "
        "features may do. To fine-tune all the same, move the last block, which is the most specific to what "
        "the network learned before"
    )


def narrowest_words(table: pd.DataFrame) -> str:
    """Return in words the set with the fewest features within the interval of the best on val."""
    sets = _logistic(table)
    best = highest_row(sets, "val_accuracy")
    near = sets[sets["val_accuracy"] >= best["val_accuracy_low"]]
    narrow = lowest_row(near, "width")
    words = f"For a head on frozen features, those of {_blocks(best)} are best: {_on_val(best)}"
    if narrow["blocks"] == best["blocks"]:
        return f"{words}; no set with fewer features comes within that interval."
    return (
        f"{words}. The fewest features within that interval are the {narrow['width']:,} of "
        f"{_blocks(narrow)}, with {shown(narrow['val_accuracy'], '%')}."
    )


def _logistic(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["head"] == LOGISTIC]


def _reached(deepest: pd.Series, best: pd.Series) -> str:
    """Return in words what the deepest block within the best one's interval reaches, and the best."""
    name = f"block {deepest['depth']}"
    if deepest["depth"] == best["depth"]:
        return f"{name} alone is the best, with {_on_val(best)}"
    reached = f"{name} is the deepest that alone, with {shown(deepest['val_accuracy'], '%')}, is within"
    return f"{reached} the interval of the best, block {best['depth']} with {_on_val(best)}"


def _on_val(row: pd.Series) -> str:
    interval = shown_interval(row["val_accuracy"], row["val_accuracy_low"], row["val_accuracy_high"])
    return f"{interval} of {row['n_val']:,} val images"


def _blocks(row: pd.Series) -> str:
    return f"block{'s' * ('+' in row['blocks'])} {short_name(row['blocks'])}"
