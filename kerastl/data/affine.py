"""Mirror, turn, zoom and shift in one resampling."""

import math

import keras
from keras import ops


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

    def __init__(self, *, mirror=False, rotation=0.0, zoom=0.0, shift=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.mirror = mirror
        self.rotation = rotation
        self.zoom = zoom
        self.shift = shift
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images, training=False):
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

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {name: getattr(self, name) for name in ("mirror", "rotation", "zoom", "shift")}
        return {**super().get_config(), **config, "seed": self.seed}


def affine_transforms(image_size, signs, angles, scales, shifts):
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
