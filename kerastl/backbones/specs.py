"""What each network of `keras.applications` needs, as declared data."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Literal

from kerastl._base.checks import closest

_ALPHA = ("alpha",)
_MOBILE = ("alpha", "depth_multiplier")
_V3 = ("alpha", "minimalistic")

_TRANSFER = {224: 288}  # from `image_size` to the size to fine-tune at; others stay


@dataclasses.dataclass(frozen=True)
class Spec:
    """One network of `keras.applications` and how its input must be prepared.

    Args:
        name: String, the name kerastl lists, such as `"mobilenet_v2"`.
        constructor: String, its function in `keras.applications`.
        preprocessing: `"tf"`, `"caffe"`, `"torch"`, or `"none"` where the network
            rescales its input itself.
        image_size: Int, height and width in pixels the published weights are measured at.
        min_size: Int, the smallest height and width it accepts.
        options: Tuple of strings, further arguments of the constructor `load` takes.
        head_arrays: Int, how many arrays the published classifier adds to a weights file.
        transfer_size: Int, height and width in pixels to fine-tune at, where it is not what
            `_TRANSFER` has for `image_size`.
    """

    name: str
    constructor: str
    preprocessing: Literal["tf", "caffe", "torch", "none"]
    image_size: int
    min_size: int = 32
    options: tuple[str, ...] = ()
    head_arrays: int = 2
    transfer_size: int | None = None


SPECS = (
    Spec("mobilenet", "MobileNet", "tf", 224, options=_MOBILE),
    Spec("mobilenet_v2", "MobileNetV2", "tf", 224, options=_ALPHA),
    Spec("mobilenet_v3_small", "MobileNetV3Small", "none", 224, options=_V3, head_arrays=4),
    Spec("mobilenet_v3_large", "MobileNetV3Large", "none", 224, options=_V3, head_arrays=4),
    Spec("efficientnet_b0", "EfficientNetB0", "none", 224),
    Spec("efficientnet_b1", "EfficientNetB1", "none", 240),
    Spec("efficientnet_b2", "EfficientNetB2", "none", 260),
    Spec("efficientnet_b3", "EfficientNetB3", "none", 300),
    Spec("efficientnet_b4", "EfficientNetB4", "none", 380),
    Spec("efficientnet_b5", "EfficientNetB5", "none", 456),
    Spec("efficientnet_b6", "EfficientNetB6", "none", 528),
    Spec("efficientnet_b7", "EfficientNetB7", "none", 600),
    Spec("efficientnet_v2_b0", "EfficientNetV2B0", "none", 224, transfer_size=224),
    Spec("efficientnet_v2_b1", "EfficientNetV2B1", "none", 240),
    Spec("efficientnet_v2_b2", "EfficientNetV2B2", "none", 260),
    Spec("efficientnet_v2_b3", "EfficientNetV2B3", "none", 300),
    Spec("efficientnet_v2_s", "EfficientNetV2S", "none", 384),
    Spec("efficientnet_v2_m", "EfficientNetV2M", "none", 480),
    Spec("efficientnet_v2_l", "EfficientNetV2L", "none", 480),
    Spec("resnet50", "ResNet50", "caffe", 224),
    Spec("resnet101", "ResNet101", "caffe", 224),
    Spec("resnet152", "ResNet152", "caffe", 224),
    Spec("resnet50_v2", "ResNet50V2", "tf", 224),
    Spec("resnet101_v2", "ResNet101V2", "tf", 224),
    Spec("resnet152_v2", "ResNet152V2", "tf", 224),
    Spec("vgg16", "VGG16", "caffe", 224, head_arrays=6),
    Spec("vgg19", "VGG19", "caffe", 224, head_arrays=6),
    Spec("densenet121", "DenseNet121", "torch", 224),
    Spec("densenet169", "DenseNet169", "torch", 224),
    Spec("densenet201", "DenseNet201", "torch", 224),
    Spec("inception_v3", "InceptionV3", "tf", 299, min_size=75),
    Spec("inception_resnet_v2", "InceptionResNetV2", "tf", 299, min_size=75),
    Spec("xception", "Xception", "tf", 299, min_size=71),
    Spec("nasnet_mobile", "NASNetMobile", "tf", 224),
    Spec("nasnet_large", "NASNetLarge", "tf", 331),
    Spec("convnext_tiny", "ConvNeXtTiny", "none", 224, head_arrays=4),
    Spec("convnext_small", "ConvNeXtSmall", "none", 224, head_arrays=4),
    Spec("convnext_base", "ConvNeXtBase", "none", 224, head_arrays=4),
    Spec("convnext_large", "ConvNeXtLarge", "none", 224, head_arrays=4),
    Spec("convnext_xlarge", "ConvNeXtXLarge", "none", 224, head_arrays=4),
)


def names() -> tuple[str, ...]:
    """The networks of `keras.applications` that `load` knows, in the order of `SPECS`.

    Example:
        >>> names()[:2]
        ('mobilenet', 'mobilenet_v2')
    """
    return tuple(spec.name for spec in SPECS)


def find(name: str, others: Iterable[str] = ()) -> Spec:
    """The `Spec` of `name`; case, `-`, `_` and spaces do not matter.

    Args:
        name: String, such as `"mobilenet_v2"`, `"MobileNetV2"` or `"mobilenet-v2"`.
        others: Further names that may have been meant, for the message.

    Returns:
        A `Spec`.

    Raises:
        ValueError: If no network has that name; the message has the nearest ones.

    Example:
        >>> find("MobileNet-V2").name
        'mobilenet_v2'
    """
    spec = lookup(name)
    if spec is not None:
        return spec
    raise ValueError(
        "`name` must be a network of keras.applications (see `kerastl.backbones.names()`), "
        "a preset of KerasHub (`hub:PRESET`), `cv:PRESET`, a preset folder or a `.keras` file that "
        "exists. "
        f"Received: name={name!r}. Closest: {closest(str(name).lower(), (*names(), *others))}."
    )


def lookup(name: str) -> Spec | None:
    """As `find`, but None where no network has that name."""
    for spec in SPECS:
        if _squeezed(name) in (_squeezed(spec.name), _squeezed(spec.constructor)):
            return spec
    return None


def transfer_size(name: str) -> int | None:
    """The height and width at which `tune` gives pictures to a pretrained network, in pixels.

    Pretraining shows a network random crops, enlarged, and so objects larger than they are in
    whole pictures of the same size. Pictures 9/7 times as large make up for it: 288 for weights
    trained at 224, at 1.65 times the computation. EfficientNetV2 was trained on crops smaller
    than its published size, and networks of more than 224 are costly as they are: theirs stays.

    Args:
        name: As `load` takes it.

    Returns:
        Int, or None for what is no network of `keras.applications`: its own size is best known
        to itself.

    Example:
        >>> transfer_size("mobilenet_v2"), transfer_size("efficientnet_v2_b0")
        (288, 224)

    References:
        Touvron et al., 2019 (FixRes), https://arxiv.org/abs/1906.06423; Tan & Le, 2021
        (EfficientNetV2), https://arxiv.org/abs/2104.00298
    """
    spec = lookup(name)
    if spec is None:
        return None
    return spec.transfer_size or _TRANSFER.get(spec.image_size, spec.image_size)


def _squeezed(name):
    return re.sub(r"[-_\s]", "", str(name)).lower()
