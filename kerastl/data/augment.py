"""Augmentation by Keras layers, inside tf.data, repeatable from a seed."""

import inspect

import keras
import tensorflow as tf

from kerastl._checks import listed
from kerastl.data.affine import RandomAffine

LEVELS = ("none", "light", "medium", "strong")

# They mix pictures of a batch, labels included: labels must be one-hot.
MIXERS = (keras.layers.MixUp, keras.layers.CutMix)


def augmentation_layers(level):
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
    base = {"dtype": "float32"}
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
    pixels = {"value_range": (0, 255), "dtype": "float32"}
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

    def __init__(self, augment):
        self.steps = _steps(augment)
        self.mixes = any(isinstance(step, MIXERS) for step in self.steps)
        self.sees_labels = self.mixes or not all(
            isinstance(step, keras.layers.Layer) for step in self.steps
        )
        self._seeds = [seed for step in self.steps for seed in _seed_states(step)]

    def __call__(self, images, labels, key):
        self._set_seeds(key)
        for step in self.steps:
            images, labels = _apply(step, images, labels)
            images = tf.cast(images, tf.float32)
        if self.steps:
            images = tf.clip_by_value(images, 0.0, 255.0)
        return images, labels

    def description(self):
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


def _steps(augment):
    if augment is None or (isinstance(augment, str) and augment in LEVELS):
        return augmentation_layers(augment or "none")
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


def _apply(step, images, labels):
    if isinstance(step, MIXERS):
        mixed = step({"images": images, "labels": labels}, training=True)
        return mixed["images"], mixed["labels"]
    if not isinstance(step, keras.layers.Layer):
        return step(images, labels)
    has_training = "training" in inspect.signature(step.call).parameters
    return step(images, training=True) if has_training else step(images), labels
