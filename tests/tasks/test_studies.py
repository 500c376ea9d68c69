"""Block studies and comparisons of seeds end in a table and plots, and reject invalid parameters."""

from __future__ import annotations

import pandas as pd
import pytest
from small_graphs import build, hits_of

from pipeline.errors import BadInput
from tasks import BlockStudy, CompareSeeds

DIGITS = {"dataset": "digits", "subset": 200, "precision": "float32"}
SMALL = {"filters": [4], "units": [8], "epochs": 2, "batch_size": 16}


def test_a_block_study_has_the_lessons_blocks_with_three_seeds_each():
    parts = BlockStudy().shown
    assert len(parts) == 4 * 3 * 3
    assert len({task.task_id for _, task in parts}) == len(parts)
    budgets = {(task.resolved.epochs, task.resolved.learning_rate, task.subset) for _, task in parts}
    assert budgets == {(8, 1e-3, 6_000)}


def test_a_seed_given_twice_is_run_once():
    assert len(CompareSeeds(schemes="from-scratch:lesson", seeds=(1, 1, 2), **DIGITS).shown) == 2


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (BlockStudy, {"conv_blocks": " ; "}, "--conv-blocks: expected at least one block"),
        (BlockStudy, {"dense_blocks": "dense - conv"}, "'conv' in block 'dense - conv'"),
        (
            BlockStudy,
            {"settings": {"dense_blocks": "dense"}},
            "expected no dense_blocks; set --dense-blocks instead",
        ),
        (BlockStudy, {"settings": {"speed": 1}}, "unknown setting 'speed'"),
        (CompareSeeds, {"schemes": ""}, "schemes: expected at least one"),
        (CompareSeeds, {"settings": {"head:knn": {}}}, "expected settings of the schemes from-scratch:fast"),
        (CompareSeeds, {"seeds": None}, "--seeds: expected at least one whole number"),
        (BlockStudy, {"seeds": ()}, "--seeds: expected at least one whole number"),
    ],
)
def test_an_invalid_study_is_rejected(task, changes, message):
    with pytest.raises(BadInput, match=message):
        task(**{**DIGITS, **changes})


@pytest.mark.slow
def test_a_block_study_writes_a_table_and_a_plot_and_nothing_is_repeated(data_folder):
    blocks = {"conv_blocks": "conv - maxpool; conv - batch norm - maxpool", "dense_blocks": "dense"}
    task = BlockStudy(seeds=(0, 1), settings=SMALL, **blocks, **DIGITS)
    assert build(task)
    table = pd.read_csv(task.folder / "blocks.csv")
    assert len(table) == 4
    assert set(table["conv block"]) == {"conv - maxpool", "conv - batch norm - maxpool"}
    hits = [hits_of(run.folder) for _, run in task.shown]
    assert table["accuracy"].tolist() == pytest.approx([right / n for right, n in hits])
    assert "## Effect of the dense block" in (task.folder / "blocks.md").read_text()
    assert (task.folder / "blocks.png").stat().st_size > 5_000
    before = {path: path.stat().st_mtime_ns for path in data_folder.rglob("*") if path.is_file()}
    assert build(BlockStudy(**task.param_kwargs))
    assert before == {path: path.stat().st_mtime_ns for path in data_folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_comparison_of_seeds_writes_tables_and_curves(data_folder):
    settings = {"from-scratch:lesson": SMALL, "from-scratch:lesson+dense": {**SMALL, "fit_on": "train+val"}}
    task = CompareSeeds(schemes=",".join(settings), settings=settings, seeds=(0, 1), **DIGITS)
    assert build(task)
    table = pd.read_csv(task.folder / "seeds.csv")
    assert table["seed"].tolist() == [0, 1, 0, 1]
    assert table["val_accuracy"].isna().tolist() == [False, False, True, True]
    hits = [hits_of(run.folder) for _, run in task.shown]
    assert table["accuracy"].tolist() == pytest.approx([right / n for right, n in hits])
    assert "from-scratch:lesson+dense" in (task.folder / "seeds.md").read_text()
    assert (task.folder / "curves.png").stat().st_size > 5_000
    assert (task.folder / "seeds.png").stat().st_size > 5_000
