"""What quantization-aware training is shown, and layers whose config lacks their name."""

import keras
import numpy as np
import pytest

from kerastl.compression import quantize_aware

L = keras.layers


def test_floats_for_an_integer_input_are_refused():
    pixels = keras.Input((8, 8, 3), name="pixels", dtype="uint8")
    model = keras.Model(pixels, L.Conv2D(2, 3)(L.Rescaling(1 / 255)(pixels)))
    with pytest.raises(ValueError, match=r"'pixels' must hold integers \(uint8\)"):
        quantize_aware(model, np.ones((8, 8, 8, 3), "float32"))


class Own(L.Layer):
    """Without `get_config`, so that Keras makes one of the arguments, which has no name."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = L.BatchNormalization()

    def call(self, inputs):
        return self.norm(inputs, training=False)


def test_a_layer_without_a_config_of_its_own_keeps_its_name():
    pixels = keras.Input((8, 8, 3))
    x = L.Conv2D(2, 3, name="body")(Own(name="own")(pixels))
    quantized = quantize_aware(keras.Model(pixels, x), np.ones((8, 8, 8, 3), "float32"))
    assert quantized.get_layer("own").norm is not None
