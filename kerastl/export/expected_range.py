"""What values a model was made to take, where its own layers tell."""

import keras
import numpy as np

from kerastl.export.naming import every_layer

PIXELS = (0, 255)


def expected_ranges(graph):
    """Dict from the names of picture inputs to the range of values they take.

    A network that rescales by itself, as all of `keras.applications` that do and everything that
    `kerastl.backbones` loads, takes pixels. Of other inputs nothing is known.

    Example:
        >>> pixels = keras.Input((4, 4, 3), name="pixels")
        >>> expected_ranges(keras.Model(pixels, keras.layers.Rescaling(1 / 127.5)(pixels)))
        {'pixels': (0, 255)}
    """
    pictures = [
        tensor.name
        for tensor in keras.tree.flatten(graph.input)
        if len(tensor.shape) == 4 and tensor.shape[-1] in (1, 3)
    ]
    rescaled = any(_takes_pixels(layer) for layer in every_layer(graph))
    return dict.fromkeys(pictures, PIXELS) if rescaled else {}


def _takes_pixels(layer):
    """Whether `layer` is a Rescaling that brings 0 to 255 down to a range near one."""
    if type(layer).__name__ != "Rescaling":
        return False
    spread = 255 * float(np.max(np.abs(np.asarray(layer.scale, "float64"))))
    # In the manner of Caffe pixels keep their spread and lose their mean, around 100.
    centred = spread == 255 and np.min(np.asarray(layer.offset, "float64")) < -50
    return 0.5 <= spread <= 10 or bool(centred)
