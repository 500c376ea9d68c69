"""An extension with one new row of each table, as a user would add them through HEADSTART_EXTENSIONS."""

from __future__ import annotations

import dataclasses

from pipeline.backbones.table import BACKBONES
from pipeline.datasets.table import DATASETS, Dataset, Records
from pipeline.recipes.base import TrainingRecipe
from pipeline.recipes.from_scratch import SCRATCH_RECIPES
from pipeline.recipes.heads import HEADS
from pipeline.recipes.presets import PRESETS, Plan, Preset
from pipeline.recipes.schemes import SCHEMES, Scheme
from pipeline.report.table import COMPARISON_PLOTS, PLOTS, Plot
from pipeline.results.table import SCORES, Score

CLASSES = 3


def read_stripes(_, writer, progress) -> Records:
    """Write 120 images of stripes whose width depends on the class."""
    import numpy as np

    labels = np.arange(120) % CLASSES
    wave = [np.sin(np.arange(32) * (label + 1) / 2) > 0 for label in range(CLASSES)]
    images = np.stack([np.tile(wave[label][:, None, None], (1, 32, 3)) for label in labels])
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 100, images.shape)
    names = [f"stripes_{number}.png" for number in range(120)]
    writer.add((images * 150 + noise).astype(np.uint8))
    return Records(labels, names, ("one", "two", "three"), None)


def train_shares(job):
    """Return a classifier that always predicts the class shares of the training images."""
    import keras
    import numpy as np

    from pipeline.training.history import History
    from pipeline.training.job import TrainingResult

    shares = np.bincount(job.images.labels[job.images.rows("train")], minlength=CLASSES)
    rows = job.rows()
    pixels = keras.Input((32, 32, 3))
    model = keras.Model(pixels, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(pixels)))
    probabilities = np.tile(shares / shares.sum(), (len(rows), 1)).astype(np.float32)
    return TrainingResult(model, History(), rows, probabilities)


def worst_class(probabilities, labels) -> float:
    """Return the lowest accuracy of any class."""
    correct = probabilities.argmax(axis=1) == labels
    return float(min(correct[labels == label].mean() for label in set(labels.tolist())))


def draw_nothing(*_):
    """Return an empty figure."""
    from pipeline.report.drawing import new_figure

    return new_figure("a plot of an extension")[0]


DATASETS["stripes"] = Dataset(
    name="stripes",
    title="stripes",
    reader="rows_from_outside:read_stripes",
    source="made by this module",
    size=120,
    download=None,
    val_fraction=0.2,
    test_fraction=0.2,
)
BACKBONES["vgg-plain"] = dataclasses.replace(
    BACKBONES["vgg19"], name="vgg-plain", title="VGG19 without centering", subtract=(0.0, 0.0, 0.0)
)
HEADS["narrow"] = dataclasses.replace(HEADS["dense"], name="narrow", units=(4,), epochs=1)
SCRATCH_RECIPES["small"] = dataclasses.replace(
    SCRATCH_RECIPES["lesson"], name="small", filters=(4,), units=(8,), epochs=1, batch_size=16
)
SCHEMES["shares"] = Scheme(
    name="shares",
    task="CountShares",
    recipes={"plain": TrainingRecipe(name="plain", title="shares of the classes", epochs=0)},
    train="rows_from_outside:train_shares",
)
SCORES["worst_class"] = Score(
    name="worst_class",
    title="worst class",
    function="rows_from_outside:worst_class",
    unit="%",
)
PLOTS["outside"] = COMPARISON_PLOTS["outside"] = Plot(
    name="outside", title="Outside", function="rows_from_outside:draw_nothing"
)
PRESETS["outside"] = Preset(
    name="outside",
    title="All rows of an extension",
    dataset="stripes",
    subset=0,
    weights="random",
    seeds=(0,),
    plans=(Plan("head:narrow"), Plan("from-scratch:small"), Plan("shares:plain")),
)
