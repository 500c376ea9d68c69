"""The graph: Luigi tasks that read, call one function of pipeline/, and publish.

    luigi --module tasks CompareSchemes --preset demo

Importing this package loads Luigi and the project's tables, and none of the numerical libraries.
"""

from tasks.configuration import configure

configure()

from tasks.atlas import LayerAtlas  # noqa: E402  tasks read the configuration while they are defined
from tasks.comparison import CompareSchemes  # noqa: E402
from tasks.data import DownloadCifar10, DownloadWeights, PrepareDataset  # noqa: E402
from tasks.features import ExtractFeatures  # noqa: E402
from tasks.findings import DataFindings  # noqa: E402
from tasks.labels import HeadCurve, LabelEfficiency  # noqa: E402
from tasks.results import PlotRun, ScoreRun  # noqa: E402
from tasks.search import TuneFineTune, TuneFromScratch  # noqa: E402
from tasks.studies import BlockStudy, CompareSeeds  # noqa: E402
from tasks.training import FineTune, TrainFromScratch, TrainHead, TrainTunedHead  # noqa: E402
from tasks.tuning import TuneHead  # noqa: E402

__all__ = [
    "BlockStudy",
    "CompareSchemes",
    "CompareSeeds",
    "DataFindings",
    "DownloadCifar10",
    "DownloadWeights",
    "ExtractFeatures",
    "FineTune",
    "HeadCurve",
    "LabelEfficiency",
    "LayerAtlas",
    "PlotRun",
    "PrepareDataset",
    "ScoreRun",
    "TrainFromScratch",
    "TrainHead",
    "TrainTunedHead",
    "TuneFineTune",
    "TuneFromScratch",
    "TuneHead",
]
