"""Extract features on a Dask cluster, a task for each shard; Dask runs those of lost workers again.

Every worker keeps one child process, which computes one shard at a time. All share the data folder of the
command, whose files decide what is finished.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import distributed

from pipeline import machine
from pipeline.children import open_child
from pipeline.datasets.store import ImageStore
from pipeline.errors import HeadstartError
from pipeline.features.extract import finish
from pipeline.features.sections import missing_sections
from pipeline.progress import Progress, silent
from pipeline.storage.fingerprint import differences, key_of
from pipeline.storage.layout import LOCKS
from pipeline.storage.publishing import check_free_space, claimed, is_held, process_name

CONNECT_SECONDS, WORKER_SECONDS = 10, 60  # to reach the scheduler, and for the first worker
RETRIES = 2  # of a shard whose child process failed; Dask counts lost workers separately

logger = logging.getLogger(__name__)


def extract(
    request: dict[str, Any],
    dataset: str,
    weights: str,
    folder: str,
    scheduler: str,
    batch_size: int | None = None,
    allow_mixed: bool = False,
    progress: Progress = silent,
) -> None:
    """Compute what the cache at folder lacks of a request, on the workers of a Dask scheduler.

    scheduler is its address, or "local" for a new one with a worker on this machine, reachable from it alone.
    The other arguments are those of features.extract. Raises HeadstartError if the scheduler cannot be
    reached or is lost, and, unless allow_mixed, if the processor features or library versions of a worker
    differ from this machine's; one that joins later gets no task. Finished shards are kept.
    """
    count = len(ImageStore(dataset).images)  # checked here, for all workers
    eligibility = _Eligibility(None if allow_mixed else machine.traits())
    sections = missing_sections(Path(folder), request)
    check_free_space(Path(folder), sum(one.missing_bytes(count) for one in sections), "the features")
    sources = {"dataset": dataset, "weights": weights, "folder": folder, "batch_size": batch_size}
    lock = Path(folder) / LOCKS / f"{process_name()}.lock"  # finish removes the folders of sections' locks
    with claimed(lock), _connected(scheduler) as client:
        client.register_plugin(eligibility)
        for section in sections:
            columns = {"base": section.base, "layers": section.layers, "view": section.view}
            shards, notes, done = {}, {}, 0
            for number in range(len(section.spans(count))):
                options = {"key": f"{section.key}-{number}-{lock.stem}", "retries": RETRIES}
                options["resources"] = {eligibility.name: 1}
                shards[client.submit(_compute, {**columns, **sources}, number, lock, **options)] = number
            for shard in distributed.as_completed(shards):
                note = notes[shards[shard]] = shard.result()
                done += note["span"][1] - note["span"][0]
                progress(f"extract features, {section.view}", done, count, "images")
            finish(section, count, notes)
    lock.unlink(missing_ok=True)


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[distributed.Client]:
    """Yield a client of a scheduler that has a worker; errors of Dask and the network are HeadstartErrors."""
    with contextlib.ExitStack() as stack:
        try:
            cluster: Any = scheduler
            if scheduler == "local":
                options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "threads_per_worker": 1}
                cluster = stack.enter_context(distributed.LocalCluster(n_workers=1, **options))
            client = stack.enter_context(distributed.Client(cluster, timeout=CONNECT_SECONDS))
            logger.warning("Dask dashboard: %s", client.dashboard_link)
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
            yield client
        except (distributed.KilledWorker, distributed.CancelledError, OSError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise HeadstartError(f"Dask scheduler {scheduler}: {reason}; finished shards are kept") from error


class _Eligibility(distributed.WorkerPlugin):
    """Offers a resource, which tasks need, on each Dask worker with these traits, on any if they are None.

    Of the workers there are, one that differs is an error, which names it; one that joins later gets no task.
    """

    def __init__(self, traits: dict[str, Any] | None):
        self._traits, self.name = traits, f"headstart-{key_of(traits)}"

    async def setup(self, worker: distributed.Worker) -> None:
        if self._traits and (different := differences(machine.traits(), self._traits)):
            raise HeadstartError(
                f"Dask worker {worker.address}: {'; '.join(different)} (as where the command runs); "
                "features could differ in their last bits: stop the worker, or use --allow-mixed-workers"
            )
        await worker.set_resources(**{self.name: 1})


_one_at_a_time, _process = threading.Lock(), contextlib.ExitStack()


@functools.cache
def _child() -> Callable[..., Any]:
    """Return the function that calls the child of this Dask worker, which ends with the worker."""
    return _process.enter_context(open_child())


def _compute(request: dict[str, Any], number: int, lock: Path) -> Any:
    """Return the note of a shard, which this Dask worker computes unless it is finished; a Dask task.

    Raises HeadstartError if the worker cannot see that the client holds the lock.
    """
    if not (lock.is_file() and is_held(lock)):
        raise HeadstartError(
            f"Dask worker {distributed.get_worker().address}: does not share {lock.parents[1]} and its locks "
            "with the machine that runs the command; `headstart doctor` checks a data folder"
        )
    with _one_at_a_time:
        try:
            return _child()("pipeline.features.extract:extract_shard", {**request, "number": number})
        except HeadstartError:  # its child may have ended, or hold locks of shards that it began
            _process.close()
            _child.cache_clear()
            raise
