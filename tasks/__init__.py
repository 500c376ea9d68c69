"""The graph: Luigi tasks, each of which reads inputs, calls one function of pipeline/, and publishes.

    luigi --module tasks CompareSchemes --preset demo

Importing this package loads Luigi and the project's tables, but no numerical libraries.
"""

import configparser
import sys
from pathlib import Path

import pipeline

if Path(pipeline.__file__ or "").parent.parent != Path(__file__).parent.parent:
    sys.exit(f"headstart: error: {pipeline.__file__} is not Headstart's pipeline; remove it from PYTHONPATH")
try:
    from tasks.configuration import check_task_name, configure
except (configparser.Error, ImportError) as error:  # Luigi reads its configuration when it is imported
    sys.exit(f"headstart: error: Luigi's configuration: {' '.join(str(error).split())}")

configure()  # before the tasks are defined, because they read the configuration

from tasks.comparison import CompareSchemes
from tasks.data import DownloadCifar10, DownloadCifar100, DownloadWeights, PrepareDataset
from tasks.features import ExtractFeatures
from tasks.label_efficiency import HeadCurve, LabelEfficiency
from tasks.recommendation import Recommend
from tasks.results import DataFindings, PlotRun, ScoreRun
from tasks.search import TuneFineTune, TuneFromScratch
from tasks.studies import BlockStudy, CompareSeeds
from tasks.training import FineTune, TrainFromScratch, TrainHead, TrainTunedHead, TuneHead

check_task_name(sys.argv)
