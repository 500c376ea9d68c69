"""Tasks that write nothing, start with damaged files, follow TensorFlow, or run thirty times in a row."""

from __future__ import annotations

import luigi
import pytest
from small_graphs import build
from trees import only

from pipeline.storage.publishing import MANIFEST, publish_manifest, publish_text
from tasks import PrepareDataset
from tasks.task import Task

AFTER_TENSORFLOW = """
import sys
import tensorflow as tf

assert float(tf.function(lambda x: tf.reduce_sum(x @ x))(tf.ones((300, 300)))) > 0
import luigi
from tasks import DownloadWeights, ExtractFeatures, PrepareDataset

some = {"dataset": "digits", "subset": 100, "weights": "random", "precision": "float32"}
tasks = [ExtractFeatures(layers="block1_pool", views=view, **some) for view in ("identity", "hflip")]
done = luigi.build(tasks, local_scheduler=True, workers=int(sys.argv[1]), log_level="WARNING")
assert done and all(task.complete() for task in tasks)
"""

THIRTY_HEADS = """
import luigi
from tasks import TrainHead

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

some = {"dataset": "digits", "subset": 100, "weights": "random", "precision": "float32"}
for seed in range(30):
    task = TrainHead(recipe="ridge", layers=("block1_pool",), seed=seed, **some)
    assert luigi.build([task], local_scheduler=True, log_level="ERROR")
    print(resident(), flush=True)
"""


class Written(Task):
    """Publishes one text, or nothing if lazy."""

    lazy = luigi.BoolParameter(default=False)
    kind, label = "seeds", "written"

    @property
    def fingerprint(self) -> dict:
        return {"written": 1}

    def make(self) -> None:
        if not self.lazy:
            publish_text(self.folder / "text.txt", "complete")
            publish_manifest(self.folder, self.fingerprint, ["text.txt"])


def test_fault_22_a_task_that_writes_nothing_fails():
    assert not build(Written(lazy=True))
    assert not Written(lazy=True).folder.exists()


@pytest.mark.parametrize("manifest", ["", "{", '{"files": {}}', "\0" * 100])
def test_fault_22_invalid_files_in_a_tasks_folder_are_replaced(manifest):
    task = Written()
    publish_text(task.folder / "text.txt", "half")
    publish_text(task.folder / MANIFEST, manifest)
    assert not task.complete()
    assert build(task)
    assert (task.folder / "text.txt").read_text() == "complete"


def test_fault_22_damaged_output_is_made_again():
    task = Written()
    assert build(task)
    (task.folder / "text.txt").write_text("cut")
    assert not task.complete()
    assert build(task)
    assert (task.folder / "text.txt").read_text() == "complete"


def test_fault_22_invalid_files_in_place_of_a_data_set_are_replaced():
    task = PrepareDataset(dataset="digits", subset=100)
    task.folder.mkdir(parents=True)
    (task.folder / "dataset.h5").write_bytes(b"no HDF5")
    (task.folder / MANIFEST).write_text("[]")
    assert build(task)
    assert (task.folder / "dataset.h5").read_bytes()[1:4] == b"HDF"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_fault_21_tensorflow_in_the_parent_does_not_hang_the_graph(call, data_folder, workers):
    done = call("-c", AFTER_TENSORFLOW, workers)
    assert done.returncode == 0, done.stderr
    assert only(data_folder, "datasets/*/manifest.json")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fault_26_memory_of_the_parent_does_not_grow_over_thirty_heads(call):
    done = call("-c", THIRTY_HEADS, timeout=800)
    assert done.returncode == 0, done.stderr
    sizes = [int(line) for line in done.stdout.split()]
    assert len(sizes) == 30
    settled, last = max(sizes[5:15]), max(sizes[20:])
    assert last <= settled + (4 << 20)  # bytes: room for a few heap pages, not for thirty results
