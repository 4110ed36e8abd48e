"""Augmentation by Keras layers, inside tf.data, repeatable from a seed."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, cast, get_args

import keras
import tensorflow as tf
from keras import ops

from kerastl._base.checks import listed
from kerastl._base.types import TensorLike

Level: TypeAlias = Literal["none", "light", "medium", "strong"]
LEVELS = get_args(Level)

# What `Augmenter` takes; a list holds of these again.
Augment: TypeAlias = Level | keras.Layer | Callable[..., Any] | Sequence[Any] | None

# They mix pictures of a batch, labels included: labels must be one-hot.
MIXERS = (keras.layers.MixUp, keras.layers.CutMix)


def augmentation_layers(level: Level) -> list[keras.Layer]:
    """The Keras layers of a level of augmentation, for pixels 0 to 255.

    For photographs, whose mirror image means the same. For writing, signs or scans give
    layers of your own. `RandomAffine` stands for four layers of Keras in a row, several times
    as fast. `RandAugment` and `RandomErasing` are left out: on a processor they take longer
    than the training step of a small network.

    | level | layers |
    | --- | --- |
    | none | |
    | light | mirror, shift up to 10 % |
    | medium | mirror, shift up to 10 %, turn up to 18°, zoom, contrast, brightness up to 20 % |
    | strong | mirror, shift up to 15 %, turn up to 27°, the rest up to 40 %, then `MixUp(0.2)` |

    Args:
        level: One of `LEVELS`.

    Returns:
        List of new layers; their seeds are set batch by batch by `Augmenter`.

    Example:
        >>> [type(layer).__name__ for layer in augmentation_layers("light")]
        ['RandomAffine']
    """
    # float32 whatever the global policy is: half precision rounds pixels above 128 to eighths.
    base: dict[str, Any] = {"dtype": "float32"}
    if level == "none":
        return []
    if level == "light":
        return [RandomAffine(mirror=True, shift=0.1, **base)]
    if level == "medium":
        move = RandomAffine(mirror=True, rotation=0.05, zoom=0.2, shift=0.1, **base)
        return [move, *_light(0.2)]
    move = RandomAffine(mirror=True, rotation=0.075, zoom=0.4, shift=0.15, **base)
    return [move, *_light(0.4), keras.layers.MixUp(0.2, **base)]


def _light(factor):
    pixels: dict[str, Any] = {"value_range": (0, 255), "dtype": "float32"}
    return [
        keras.layers.RandomContrast(factor, **pixels),
        keras.layers.RandomBrightness(factor, **pixels),
    ]


class Augmenter:
    """Augments batches; the same key gives the same result.

    The state of every Keras seed generator inside the layers is set from the key before each
    batch, so that nothing depends on how many batches were drawn before.

    Args:
        augment: One of `LEVELS`; a Keras layer, called on the images with `training=True`
            (`MixUp` and `CutMix` on images and one-hot labels); a callable
            `(images, labels) -> (images, labels)`, which brings its own randomness; a list of
            them; or None for nothing.

    Example:
        >>> images, labels = tf.random.uniform((2, 8, 8, 3), 0, 255), tf.one_hot([0, 1], 2)
        >>> augmenter = Augmenter("strong")
        >>> one, _ = augmenter(images, labels, key=[7, 0])
        >>> two, _ = augmenter(images, labels, key=[7, 0])
        >>> bool(tf.reduce_all(one == two)), augmenter.mixes
        (True, True)
    """

    def __init__(self, augment: "Augment") -> None:
        self.steps = _steps(augment)
        self.mixes = any(isinstance(step, MIXERS) for step in self.steps)
        self.sees_labels = self.mixes or not all(
            isinstance(step, keras.layers.Layer) for step in self.steps
        )
        self._seeds = [seed for step in self.steps for seed in _seed_states(step)]

    def __call__(
        self, images: TensorLike, labels: TensorLike, key: TensorLike
    ) -> tuple[TensorLike, TensorLike]:
        self._set_seeds(key)
        for step in self.steps:
            images, labels = _apply(step, images, labels)
            images = tf.cast(images, tf.float32)
        if self.steps:
            images = tf.clip_by_value(images, 0.0, 255.0)
        return images, labels

    def description(self) -> list[str]:
        """What is done, as text that differs where the settings do; names and seeds do not count.

        The seeds are set batch by batch, and automatic names differ between processes.
        """
        return [_described(step) for step in self.steps]

    def _set_seeds(self, key):
        if not self._seeds:
            return
        drawn = tf.random.stateless_uniform(
            (len(self._seeds), 2), key, minval=0, maxval=2**31 - 1, dtype=tf.int32, alg="philox"
        )
        for seed, value in zip(self._seeds, tf.unstack(drawn), strict=True):
            seed.assign(tf.cast(value, seed.dtype))


def _steps(augment: Any) -> list[Any]:
    if augment is None or (isinstance(augment, str) and augment in LEVELS):
        return augmentation_layers(cast(Level, augment or "none"))
    if isinstance(augment, (list, tuple)):
        return [step for part in augment for step in _steps(part)]
    if isinstance(augment, keras.layers.Layer) or callable(augment):
        return [augment]
    raise ValueError(
        f"`augment` must be one of {listed(LEVELS)}, a Keras layer, a callable of (images, labels) "
        f"or a list of them. Received: augment={augment!r}"
    )


def _described(step):
    if not isinstance(step, keras.layers.Layer):
        return f"{step.__module__}.{step.__qualname__}"
    config = step.get_config()
    kept = {name: value for name, value in config.items() if name not in ("name", "seed")}
    return repr((type(step).__name__, kept))


def _seed_states(step):
    """Variables of the Keras seed generators of a layer and of the layers in it."""
    variables = step.variables if isinstance(step, keras.layers.Layer) else []
    return [v for v in variables if v.name == "seed_generator_state"]


def _apply(step, images, labels) -> tuple[Any, Any]:
    if isinstance(step, MIXERS):
        mixed = step({"images": images, "labels": labels}, training=True)
        return mixed["images"], mixed["labels"]
    if not isinstance(step, keras.layers.Layer):
        return step(images, labels)
    has_training = "training" in inspect.signature(step.call).parameters
    return step(images, training=True) if has_training else step(images), labels


@keras.saving.register_keras_serializable("kerastl")
class RandomAffine(keras.layers.Layer):
    """Moves each picture of a batch by its own random mirror, turn, zoom and shift.

    `RandomFlip`, `RandomRotation`, `RandomZoom` and `RandomTranslation` in a row resample a
    picture four times: that takes four times as long and blurs it each time. Here the four are
    multiplied into one matrix first. An output pixel `p` is read at

        `c + R(angle) · diag(±1/scale, 1/scale) · (p − c) + shift`

    where `c` is the centre. What lies outside is the reflected picture. With the defaults
    nothing moves.

    Args:
        mirror: Whether half of the pictures are mirrored left to right.
        rotation: Largest angle either way, as a fraction of a full turn.
        zoom: Largest magnification or reduction: `scale` is log-uniform between
            `1 / (1 + zoom)` and `1 + zoom`.
        shift: Largest shift either way, as a fraction of the height and of the width.
        seed: Int, or None for a random one.

    Input shape:
        `(batch, height, width, channels)`, any value range.

    Output shape:
        The same.

    Example:
        >>> images = ops.reshape(ops.arange(48, dtype="float32"), (1, 4, 4, 3))
        >>> bool(ops.all(RandomAffine()(images, training=True) == images))
        True
    """

    def __init__(
        self,
        *,
        mirror: bool = False,
        rotation: float = 0.0,
        zoom: float = 0.0,
        shift: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mirror = mirror
        self.rotation = rotation
        self.zoom = zoom
        self.shift = shift
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: TensorLike, training: bool | None = False) -> TensorLike:
        if not training:
            return images
        batch, height, width = ops.shape(images)[:3]
        signs = ops.sign(self._uniform(batch, 1.0)) if self.mirror else ops.ones((batch,))
        angles = self._uniform(batch, 2 * math.pi * self.rotation)
        scales = ops.exp(self._uniform(batch, math.log1p(self.zoom)))
        # Whole pixels: a shift by half a pixel blurs what the tested pictures do not.
        down = ops.round(self._uniform(batch, self.shift) * height)
        right = ops.round(self._uniform(batch, self.shift) * width)
        moves = affine_transforms((height, width), signs, angles, scales, (down, right))
        return ops.image.affine_transform(
            images, ops.cast(moves, "float32"), "bilinear", "reflect", data_format="channels_last"
        )

    def _uniform(self, batch, limit):
        # Drawn also for a limit of 0, so that one setting does not shift another's numbers.
        return limit * keras.random.uniform((batch,), -1, 1, "float32", self.seed_generator)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {name: getattr(self, name) for name in ("mirror", "rotation", "zoom", "shift")}
        return {**super().get_config(), **config, "seed": self.seed}


def affine_transforms(
    image_size: tuple[TensorLike, TensorLike],
    signs: TensorLike,
    angles: TensorLike,
    scales: TensorLike,
    shifts: tuple[TensorLike, TensorLike],
) -> TensorLike:
    """The eight numbers a picture that `keras.ops.image.affine_transform` takes.

    Args:
        image_size: `(height, width)`.
        signs: -1 mirrors left to right, 1 does not; one number a picture, as the next two.
        angles: Radians; positive turns the content counter-clockwise.
        scales: Magnification.
        shifts: Pixels `(down, right)` by which the place that is read moves.

    Returns:
        Tensor of shape `(n, 8)`: `a0, a1, a2, b0, b1, b2, 0, 0`; the output at `(x, y)` is the
        input at `(a0 x + a1 y + a2, b0 x + b1 y + b2)`.
    """
    centre_y, centre_x = ((ops.cast(n, "float32") - 1) / 2 for n in image_size)
    a0, a1 = signs * ops.cos(angles) / scales, -ops.sin(angles) / scales
    b0, b1 = signs * ops.sin(angles) / scales, ops.cos(angles) / scales
    a2 = centre_x - a0 * centre_x - a1 * centre_y + shifts[1]
    b2 = centre_y - b0 * centre_x - b1 * centre_y + shifts[0]
    zero = ops.zeros_like(a0)
    return ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)
