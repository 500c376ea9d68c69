"""The table of engines: libraries that compute a frozen network, each with the same interface.

An engine's function takes a backbone, its arrays and a PassSpec, and returns a function from uint8 images
to arrays. Planning imports this module, so it is light.
"""

import dataclasses
import importlib.util
from dataclasses import dataclass

from pipeline.backbones.algorithms import AMX_WINOGRAD_SIDE, describe_algorithms
from pipeline.backbones.table import Backbone
from pipeline.errors import BadInput, Table


@dataclass(frozen=True)
class PassSpec:
    """One pass: batch_size images (B, I, I, 3) uint8 in, an array for each of taps out; I is image_size.

    Images are resized to input_size if it differs: bilinear, antialiased, in float32 (see tf.image.resize).
    taps are pairs of a layer and its pooling: "average" gives (B, channels) float32, "none" the feature maps
    in maps_dtype, float32 or float16. Nothing past the deepest layer is computed.
    """

    image_size: int
    input_size: int
    taps: list[tuple[str, str]]
    precision: str
    batch_size: int
    maps_dtype: str = "float32"


@dataclass(frozen=True)
class Engine:
    """A library that computes a frozen network.

    forward and passes are `module:function`: the function that builds a forward pass, and the number of
    passes that run at once. A pass has pass_pixels pixels, or up to twice as many to hold few_images.
    algorithms describes how convolutions are computed, "" if it depends on the backbone, and is part of a
    cache's key. processor_flag is the feature in /proc/cpuinfo that makes it worth measuring, "" for any.
    """

    name: str
    package: str
    forward: str
    passes: str
    pass_pixels: int
    few_images: int = 1
    algorithms: str = ""
    extra: str = ""  # the extra of this project that installs it
    configure: str = ""  # sets precision and determinism before the first pass
    processor_flag: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether its package is installed; the package is not imported."""
        return importlib.util.find_spec(self.package) is not None

    def images_in_pass(self, input_size: int, precision: str) -> int:
        """Return the images in a pass if memory allows; those of float32 take twice the memory."""
        usual = self.pass_pixels // input_size**2
        most = usual if precision == "float32" else 2 * self.pass_pixels // input_size**2
        return max(1, usual, min(self.few_images, most))

    def describe_algorithms(self, row: Backbone) -> str:
        """Return how it computes the convolutions of a backbone; part of the key of every feature cache.

        Raises BadInput if it does not compute this backbone.
        """
        if self.algorithms and not row.steps:
            known = "expected vgg16, vgg19 or resnet50"
            raise BadInput(f"engine {self.name}: {known}, received {row.name}; use --engine {DEFAULT_ENGINE}")
        return self.algorithms or (describe_algorithms() if row.chain else "as keras.applications")

    def check_installed(self) -> None:
        """Raise BadInput, with the command that installs it, if its package is missing."""
        if not self.is_installed:
            raise BadInput(
                f"engine {self.name}: {self.package} is not installed; get it with "
                f"`pip install 'headstart[{self.extra}]'`, or use another --engine"
            )


DEFAULT_ENGINE = "tensorflow"
TENSORFLOW = Engine(
    name=DEFAULT_ENGINE,
    package="tensorflow",
    forward="pipeline.backbones.forward:forward_function",
    passes="pipeline.backbones.forward:passes_at_once",
    pass_pixels=128 * 32**2,
    few_images=16,  # deep layers have few pixels, and products over more images are faster
    configure="pipeline.numerics:configure",
)
ENGINES = Table(
    "engine",
    TENSORFLOW,
    dataclasses.replace(
        TENSORFLOW,
        name="tensorflow-amx",
        forward="pipeline.backbones.forward:forward_function_for_amx",
        algorithms=describe_algorithms(AMX_WINOGRAD_SIDE),
        processor_flag="amx_bf16",
    ),
    Engine(
        name="openvino",
        package="openvino",
        forward="pipeline.backbones.forward_openvino:forward_function",
        passes="pipeline.machine:usable_cores",
        pass_pixels=64 * 32**2,
        algorithms="OpenVINO",
        extra="openvino",
    ),
    Engine(
        name="torch",
        package="torch",
        forward="pipeline.backbones.forward_torch:forward_function",
        passes="pipeline.backbones.forward_torch:passes_at_once",
        pass_pixels=256 * 32**2,
        algorithms="PyTorch, channels last",
        extra="torch",
    ),
)
