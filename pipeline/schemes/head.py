"""Train a head on cached features, or the best head of a sweep, without running the backbone."""

from dataclasses import replace

from pipeline.backbones.table import BACKBONES
from pipeline.datasets.table import FINAL
from pipeline.heads.fit import HeadDataLoader, fit_head, read_choice
from pipeline.recipes.heads import Head, UncalibratedHead
from pipeline.recipes.settings import in_keys, override
from pipeline.training.classifier import Classifier
from pipeline.training.history import History
from pipeline.training.job import Job, TrainingResult


def train_head(job: Job[Head]) -> TrainingResult:
    """Train a head of any kind on the concatenated features (N, D) of its recipe's layers."""
    recipe = job.recipe
    assert job.features is not None
    with job.clock.stage("read features"):
        data = HeadDataLoader(recipe, job.features, job.images)(recipe.layers)
    history, rows = History(), job.rows()
    with job.clock.stage("head"):
        model = fit_head(recipe, data, seed=job.seed, history=history, progress=job.progress)
    with job.clock.stage("predict"):
        probabilities = Classifier(model).predict(data.examples.inputs, rows, data.views)
    below = parameters_below(job.backbone, recipe.layers)
    return TrainingResult(model, history, rows, probabilities, below, n_train=len(data.examples.train))


def train_tuned_head(job: Job[Head]) -> TrainingResult:
    """Fit the head that a sweep chose on val again, on train and val together.

    The job's recipe is the one that was swept. Raises DamagedFile if the sweep does not match its manifest.
    """
    assert job.sweep is not None
    choice = read_choice(job.sweep)
    settings = {**choice["settings"], "fit_on": FINAL}
    if isinstance(job.recipe, UncalibratedHead):
        settings["temperature"] = choice["temperature"]
    recipe = override(job.recipe, settings)
    recipe.check()
    trained = train_head(replace(job, recipe=recipe))
    return replace(trained, settings=in_keys(recipe), tune_seconds=choice["seconds"])


def parameters_below(backbone: str, layers: tuple[str, ...]) -> int:
    """Return the number of backbone parameters up to the deepest of the layers."""
    return max(BACKBONES[backbone].output(layer).parameters for layer in layers)
