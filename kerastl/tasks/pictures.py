"""Pictures as examples: how they are prepared, and which network takes them."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import backbones
from kerastl._base import files
from kerastl._base.types import OnProgress
from kerastl.backbones import glyphs
from kerastl.data import find_images, load_image_paths, read_scanned
from kerastl.data.images.decode import Resize
from kerastl.data.images.read import decode_files
from kerastl.data.images.scan import ScannedImages
from kerastl.data.ranges import FAR, PIXELS, Range, check_ranges, scaled
from kerastl.data.targets import targets_of
from kerastl.tasks.picture_examples import PictureExamples
from kerastl.tasks.protocols import (
    APART,
    DeviceForm,
    Finer,
    HeldOut,
    Objective,
    Rival,
    S,
    TaskData,
    Unlabelled,
)
from kerastl.tasks.refusals import refuse_others
from kerastl.tasks.settings import AUGMENT, RATE, CompressSettings
from kerastl.tasks.settling import settled_for

NOUN = "pictures"
USUAL = {"learning_rate": RATE, "export": "float", "backbone": "mobilenet_v2"}
OF_TEXTS = ("max_length", "pooling", "packing", "unlabelled")  # settings
LARGER, STEP = 4 / 3, 32  # how much larger finer pictures are, in multiples of so many pixels


@dataclasses.dataclass(frozen=True)
class PreparePictures:
    """Files of pictures to RGB of one size, 0 to 255; the network's own scaling is inside it.

    Args:
        image_size: `(height, width)`.
        resize: `"stretch"`, `"crop"` or `"pad"`; see `data.load_image`.
        input_range: Pair of numbers that black and white become, for a network whose scaling was
            outside it.

    Example:
        >>> prepare = PreparePictures((4, 6))
        >>> PreparePictures.from_config(prepare.to_config()) == prepare
        True
    """

    image_size: tuple[int, int]
    resize: Resize = "stretch"
    input_range: Range = PIXELS
    kind = "pictures"
    noun = NOUN

    @property
    def gives(self) -> str:
        low, high = self.input_range
        return "pixels 0 to 255" if self.input_range == PIXELS else f"values {low:g} to {high:g}"

    def __call__(self, raw: Any) -> np.ndarray:
        """Array of shape `(n, height, width, 3)` of the files `raw`: uint8 pixels, or float32."""
        pixels = load_image_paths(raw, image_size=self.image_size, resize=self.resize)[0]
        return pixels if self.input_range == PIXELS else scaled(pixels, self.input_range)

    def in_range(self, input_range: Sequence[float]) -> "PreparePictures":
        """The same for a model that takes values in `input_range`, `(low, high)`.

        Raises:
            ValueError: If it is no range.
        """
        low, high = (float(n) for n in input_range)
        if not low < high:
            raise ValueError(
                "`input_range` must be two numbers, the lower first, such as (0, 1) "
                f"(--input-range 0 1). Received: input_range={tuple(input_range)}"
            )
        return dataclasses.replace(self, input_range=(low, high))

    def check_range(
        self, model_path: pathlib.Path, model: keras.Model, inputs: Any, asked: bool
    ) -> str | None:
        """Refuse inputs whose range is another one than the model takes; see `check_ranges`.

        Returns:
            None if the model says that they are right, or the user was asked, else a question.
        """
        name = model.inputs[0].name
        what = f"What pictures become for {model_path}, {self.gives},"
        known = check_ranges(model, {name: inputs}, what, remedy=_SAY)
        return None if known or asked else self.question(model_path)

    def check_backbone(self, model: keras.Model, inputs: Any) -> None:
        """Refuse a backbone that says of itself that it takes other values than these inputs."""
        remedy = (
            "Put its scaling inside it, as a Rescaling layer in front, or choose another backbone."
        )
        what = f"What pictures become for the backbone, {self.gives},"
        check_ranges(model, {model.inputs[0].name: inputs}, what, remedy=remedy)

    def question(self, model_path: pathlib.Path) -> str:
        """What the user is asked of a model that does not say which values it takes."""
        return (
            f"{model_path} does not say which values it takes, and pictures become {self.gives} "
            f"for it. {_SAY}"
        )

    def check_file_range(self, model_path: pathlib.Path, taken: Range | None) -> None:
        """Refuse a device file that was calibrated on the values `taken`, where these are others.

        Raises:
            ValueError: If it was.
        """
        if taken is None:
            return
        (low, high), (first, last) = self.input_range, taken
        times = (high - low) / max(last - first, 1e-9)
        below = (low - first) / max(last - first, 1e-9)  # of what the file takes, never given
        if not 1 / FAR <= times <= FAR or abs(below) > 0.2:
            raise ValueError(
                f"{model_path} takes [{first:.4g}, {last:.4g}], as the scale of its input says, "
                f"and pictures become {self.gives} for it. {_SAY}"
            )

    def check_training(self, model_path: pathlib.Path) -> None:
        """Refuse to train a model on anything but pixels 0 to 255, which augmentation knows."""
        if self.input_range != PIXELS:
            raise ValueError(
                "To train, pictures must be given as pixels 0 to 255. Received: input_range="
                f"{self.input_range} for {model_path}. Put its scaling inside, by a model of "
                "keras.Input, keras.layers.Rescaling and this one, and save that."
            )

    def settled(self, settings: S, model_path: pathlib.Path) -> S:
        """`settings` of `compress` or `export` as they are; what is for texts is refused.

        Raises:
            ValueError: If `length` is given.
        """
        return without_length(settings, model_path)

    def for_device(self, model: keras.Model, length: int | None = None) -> DeviceForm:
        """`DeviceForm`: a file takes what the network takes."""
        return DeviceForm(model, self)

    def device_notices(self, data: TaskData | None) -> tuple[str, ...]:
        """None: an app gives pictures as a run does."""
        return ()

    def of_file(self, model_path: pathlib.Path, input_shape: Any) -> "PreparePictures":
        """The same."""
        return self

    def for_network(self, inputs: Any) -> Any:
        """The same."""
        return inputs

    def goes_with(self, other: Any) -> bool:
        """Whether `other` prepares the same."""
        return self == other

    @property
    def words(self) -> None:
        """None: pictures have no words."""
        return

    def check_beside(self, folder: pathlib.Path) -> None:
        """Nothing to refuse."""

    def write_beside(self, folder: pathlib.Path) -> None:
        """Nothing."""

    def find(self, paths: Any) -> list[pathlib.Path]:
        """The picture files that `paths`, files and folders, stand for."""
        return find_images(paths)

    def named(self, raw: pathlib.Path) -> dict[str, str]:
        """What says in an answer which picture it is about."""
        return {"file": str(raw)}

    def check(self, model_path: pathlib.Path, input_shape: Any) -> None:
        """Refuse a model whose input shape is not that of pictures of one size."""
        picture = isinstance(input_shape, tuple) and len(input_shape) == 4
        if not picture or input_shape[-1] != 3 or None in input_shape[1:3]:
            raise ValueError(
                "The model must take pictures of one size, (batch, height, width, 3). "
                f"Received: {model_path} with input shape {input_shape}"
            )

    def to_config(self) -> dict[str, Any]:
        config = {"image_size": list(self.image_size), "resize": self.resize}
        plain = self.input_range == PIXELS
        return config if plain else config | {"input_range": list(self.input_range)}

    def write(self, folder: pathlib.Path) -> None:
        """Nothing: all of it is in `to_config`."""

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], folder: pathlib.Path | None = None
    ) -> "PreparePictures":
        taken = tuple(config.get("input_range", PIXELS))
        return cls(tuple(config["image_size"]), config["resize"], taken)

    @classmethod
    def of_model(cls, model_path: pathlib.Path, input_shape: Any) -> "PreparePictures":
        """How pictures are prepared for a model of unknown origin: stretched to its size."""
        cls((0, 0)).check(model_path, input_shape)
        return cls(tuple(input_shape[1:3]))

    def describe(self) -> list[tuple[str, str]]:
        """Rows for the table of a run."""
        return [("height × width in pixels", " × ".join(map(str, self.image_size)))]


_SAY = (
    "Say what it was trained on by --input-range 0 255, 0 1 or -1 1 (input_range=(0, 1), say), "
    "or put its scaling inside it, as a Rescaling layer in front."
)


def without_length(settings: S, model_path: pathlib.Path) -> S:
    """`settings` of `compress` or `export` as they are for a network of pictures.

    Raises:
        ValueError: If `length` is given, which is for texts.
    """
    said: Any = settings
    if getattr(said, "length", None) is not None:
        raise ValueError(
            f"`length` (--length) is for texts. Received: length={said.length} for {model_path}"
        )
    usual = {"quantize": "none", "augment": AUGMENT, "learning_rate": CompressSettings.usual_rate}
    unsaid = {name: value for name, value in usual.items() if getattr(said, name, "") is None}
    return dataclasses.replace(said, **unsaid)


class Pictures:
    """What sources of pictures share; each says how they are found.

    Args:
        found: `data.ScannedImages`.
    """

    noun = NOUN
    takes = "pictures"
    objective: Objective  # of each kind of source its own

    def __init__(self, found: ScannedImages) -> None:
        self.found, self.path = found, pathlib.Path(found.path)

    def load_backbone(self, settings: Any) -> keras.Model:
        """The backbone that the settings name, pooled to one vector a picture.

        `"glyphnet"` is the embedded default, which needs no download: letters and digits, 32 px.
        """
        if settings.backbone == "glyphnet":
            return _embedded(settings)
        size = settings.image_size
        if size is None and settings.weights is not None:
            size = backbones.transfer_size(settings.backbone)
        return backbones.load(
            settings.backbone, weights=settings.weights, image_size=size, **settings.options
        )

    def prepare_for(self, model: keras.Model, settings: Any) -> PreparePictures:
        """`PreparePictures` at the size that `model` takes."""
        shape = model.input_shape
        if not isinstance(shape, tuple) or len(shape) != 4:
            raise ValueError(
                "The backbone must take pictures, (batch, height, width, 3). Received: "
                f"{settings.backbone!r}, which takes {shape}"
            )
        if None in shape[1:3]:
            raise ValueError(
                f"The backbone {settings.backbone!r} takes pictures of any size, so `image_size` "
                "must say which. Pass image_size=224 (--image-size 224), say. "
                "Received: image_size=None"
            )
        return PreparePictures(tuple(shape[1:3]))

    def settled(self, settings: S) -> S:
        """`settings` with their learning rate; what is for texts is refused.

        Raises:
            ValueError: If one is given that pictures have no use for.
        """
        of_texts = f"is for texts, and {self.path} holds pictures."
        refuse_others(settings, dict.fromkeys(OF_TEXTS, of_texts))
        return settled_for(self.objective, settings, **USUAL)

    def rival(self, data: TaskData, settings: Any) -> Rival | None:
        """None: the probe is what pictures are beaten by."""
        return None

    def write(self, folder: pathlib.Path) -> None:
        """Nothing: all of the network is in `model.keras`."""

    def unlabelled(self, model: keras.Model, data: TaskData, settings: Any) -> Unlabelled | None:
        """None: pictures are learnt of with their labels alone."""
        return None

    def finer(self, prepare: Any, settings: Any) -> Finer | None:
        """Pictures a third larger, in steps of 32 pixels, which every network takes.

        None if the user said their size, where the network's own is best known to itself
        (`backbones.transfer_size`), and where they do not fit in memory.
        """
        own = settings.weights is None or backbones.transfer_size(settings.backbone) is None
        if settings.image_size is not None or own:
            return None
        side = prepare.image_size[0]
        larger = STEP * round(side * LARGER / STEP)
        num_bytes = 3 * larger**2 * sum(map(len, self.found.splits.values()))
        if settings.cache_dir is None and not files.fits_in_memory(num_bytes):
            return None
        given = dataclasses.replace(settings, image_size=larger)
        return Finer(given, (larger / side) ** 2, f"{NOUN} of {larger} pixels")

    def read(
        self,
        prepare: Any,
        settings: Any,
        *,
        seed: int,
        progress: OnProgress | None = None,
    ) -> TaskData:
        """`TaskData` of all pictures."""
        read = read_scanned(
            self.found,
            image_size=prepare.image_size,
            resize=prepare.resize,
            seed=seed,
            strict=settings.strict,
            val_share=settings.validation,
            cache_dir=settings.cache_dir,
            progress=progress,
        )
        one_hot = len(read.class_names) if read.kind == "class" else None
        train, val, test = (
            PictureExamples(part.images, part.labels, one_hot, part.paths, prepare.input_range)
            for part in (read.train, read.val, read.test)
        )
        return TaskData(
            train,
            val,
            test,
            read.class_names,
            prepare,
            self.objective,
            read.notices,
            read.skipped,
        )

    def read_held_out(self, prepare: Any, *, progress: OnProgress | None = None) -> HeldOut:
        """`HeldOut`: the pictures of `test/` or `val/` if there are any, else all."""
        split = next(n for n in ("test", "val", "all", "train") if n in self.found.splits)
        files, targets = zip(*self.found.splits[split], strict=True)
        pixels, records = decode_files(
            files, image_size=prepare.image_size, resize=prepare.resize, progress=progress
        )
        reasons = [record["reason"] for record in records]
        kept = [i for i, why in enumerate(reasons) if not why]
        if not kept:
            raise ValueError(f"{self.path} must hold a readable picture. Received: none")
        skipped = [{"file": str(files[i]), "reason": why} for i, why in enumerate(reasons) if why]
        found = self.targets_of(targets)[kept]
        examples = PictureExamples(pixels[kept], found, input_range=prepare.input_range)
        place, apart = self.named(split), split in APART
        return HeldOut(examples, self.found.class_names, place, skipped, is_apart=apart)

    def targets_of(self, targets: Sequence[Any]) -> np.ndarray:
        """The targets of files, a list, as an array."""
        return targets_of(self.found, targets)

    def named(self, split: str) -> str:
        """Where the pictures of `split` lie, for a person."""
        return str(self.path) if split == "all" else f"{self.path} ({split})"


def _embedded(settings):
    """The glyph network, for settings that it can follow."""
    plain = settings.weights == "imagenet" and not settings.options
    if plain and settings.image_size in (None, 32):
        return glyphs.load_glyphnet()
    raise ValueError(
        "The backbone 'glyphnet' has weights of its own for pictures of 32 pixels. Leave out "
        "--weights, --alpha and --image-size, or choose another backbone. Received: "
        f"weights={settings.weights!r}, alpha={settings.alpha}, image_size={settings.image_size}"
    )
