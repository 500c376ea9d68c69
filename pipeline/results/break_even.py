"""What a head costs with and without a cache of features."""

from dataclasses import dataclass

from pipeline.runs.result import RunResult


@dataclass(frozen=True)
class BreakEven:
    """The costs of a head in seconds, computed from rates, so that process startup is excluded.

    extraction is the time to cache the features of all images in all views; epoch is the time of the same
    network for the training images in one view; head is the time to train one head from the cache.
    """

    extraction: float
    epoch: float
    epochs: int
    head: float

    def in_the_loop(self, heads: int) -> float:
        """Return the seconds for some heads if the frozen network runs in every epoch of each."""
        return heads * (self.epochs * self.epoch + self.head)

    @property
    def epochs_until_cheaper(self) -> int:
        """The epoch of the first head in which the cache becomes cheaper than the network in the loop."""
        return int(self.extraction // self.epoch) + 1


def once_and_each(run: RunResult) -> tuple[float, float]:
    """Return the seconds of a run's extraction and of its sweep and training, without process startup."""
    costs = run.costs
    once = costs.get("extract_images", 0) * costs.get("extract_image_seconds", 0.0)
    return once, costs["train_seconds"] - costs["stages"].get("start", 0.0) + costs.get("tune_seconds", 0.0)


def break_even_of(run: RunResult) -> BreakEven | None:
    """Return the costs of a head's run, or None if it read no cache or an earlier version stored no rate."""
    recipe, costs = run.recipe, run.costs
    seconds, epochs = costs.get("extract_image_seconds"), recipe["epochs"]
    if not seconds or not epochs:
        return None
    # extract_image_seconds is that of one image in all views; in an epoch, an image is seen in one of them.
    once, each = once_and_each(run)
    one_view = seconds / len(recipe["settings"].get("views", ("identity",)))
    return BreakEven(extraction=once, epoch=recipe["n_train"] * one_view, epochs=epochs, head=each)
