"""Merged is unmerged over random geometries, for every method that changes a kernel."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import peft
from kerastl.peft.adapter import with_values
from tests.peft.layers import acting, merged, scattered, through
from tests.tolerances import REDUCTION

METHODS = {
    "lora": peft.LoRA(rank=1),
    "dora": peft.DoRA(rank=1),
    "pissa": peft.PiSSA(rank=1),
    "shira": peft.SHiRA(share=0.2, choice="random"),
}
CLASSES = {
    1: keras.layers.Conv1D,
    2: keras.layers.Conv2D,
    3: keras.layers.Conv3D,
}


def drawn(seed):
    """`(settings, layer, inputs)`: a convolution of a random geometry that Keras allows."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    filters = groups * int(rng.integers(1, 4))
    channels = groups * int(rng.integers(1 + (groups > 1), 4))  # one alone is depthwise, below
    strides, dilation = rng.choice([(1, 1), (2, 1), (1, 2)])
    paddings = ["same", "valid", *(["causal"] if rank == 1 else [])]
    settings = {
        "filters": filters,
        "kernel_size": tuple(int(size) for size in rng.integers(1, 4, rank)),
        "strides": int(strides),
        "dilation_rate": int(dilation),
        "groups": groups,
        "padding": str(rng.choice(paddings)),
        "use_bias": bool(rng.integers(0, 2)),
        "activation": str(rng.choice(["linear", "relu", "tanh"])),
    }
    layer = CLASSES[rank](**settings)
    inputs = rng.normal(size=(2, *(6,) * rank, channels)).astype("float32")
    layer.build(inputs.shape)
    return settings, scattered(layer, seed), inputs


@pytest.mark.parametrize("name", METHODS)
def test_convolutions(name):
    for seed in range(12):
        settings, layer, inputs = drawn(seed)
        plain = np.asarray(layer(inputs))
        adapter = METHODS[name].adapter(layer, "layer")
        assert np.array_equal(plain, through(adapter, inputs)), settings
        scattered(adapter, seed)
        apart = through(adapter, inputs)
        np.testing.assert_allclose(merged(adapter, inputs), apart, **REDUCTION, err_msg=settings)
        assert not np.allclose(plain, apart, atol=1e-4) or not plain.any(), settings


@pytest.mark.parametrize("name", METHODS)
def test_depthwise_convolutions(name):
    rng = np.random.default_rng(0)
    by_groups = [
        keras.layers.Conv2D(8, 3, groups=4, padding="same", dilation_rate=2),
        keras.layers.Conv1D(12, 3, groups=4, padding="causal", dilation_rate=2),
    ]
    by_class = [
        layers(3, strides, padding=padding, dilation_rate=dilation, depth_multiplier=multiplier)
        for strides, dilation, padding, multiplier, layers in (
            (1, 1, "same", 1, keras.layers.DepthwiseConv2D),
            (2, 1, "valid", 2, keras.layers.DepthwiseConv2D),
            (1, 2, "same", 2, keras.layers.DepthwiseConv2D),
            (1, 1, "valid", 3, keras.layers.DepthwiseConv1D),
        )
    ]
    for layer in (*by_groups, *by_class):
        rank = len(layer.kernel_size)
        inputs = rng.normal(size=(2, *(7,) * rank, 4)).astype("float32")
        layer.build(inputs.shape)
        scattered(layer)
        plain = np.asarray(layer(inputs))
        adapter = METHODS[name].adapter(layer, "layer")
        assert np.array_equal(plain, through(adapter, inputs))
        scattered(adapter, 1)
        apart = through(adapter, inputs)
        np.testing.assert_allclose(merged(adapter, inputs), apart, **REDUCTION)
        assert not np.allclose(plain, apart, atol=1e-4)


EQUATIONS = {
    "abc,cde->abde": ((2, 5, 4), (None, 3, 2), "de"),
    "abc,cde->abed": ((2, 5, 4), (None, 2, 3), "ed"),  # outputs in another order than the kernel
    "abcd,cde->abe": ((2, 5, 3, 2), (None, 6), "e"),
    "bqm,muh->bquh": ((2, 5, 4), (None, 3, 2), None),
    "bsd,kdh->bskh": ((2, 5, 4), (None, 2, 3), None),
    "...x,xy->...y": ((2, 5, 4), (6,), "y"),
    "abc,cd->adb": ((2, 5, 4), (3, 5), "d"),  # the bias is followed by an axis of ones
}


@pytest.mark.parametrize("name", [*METHODS, "ia3", "ia3-inputs"])
def test_einsum_equations(name):
    ia3 = {"ia3": peft.IA3(), "ia3-inputs": peft.IA3(inputs="layer")}
    method = (METHODS | ia3)[name]
    rng = np.random.default_rng(0)
    for equation, (shape, output_shape, bias_axes) in EQUATIONS.items():
        layer = keras.layers.EinsumDense(equation, output_shape, bias_axes=bias_axes)
        inputs = rng.normal(size=shape).astype("float32")
        layer.build(inputs.shape)
        scattered(layer)
        plain = np.asarray(layer(inputs))
        adapter = method.adapter(layer, "layer")
        assert np.array_equal(plain, through(adapter, inputs)), equation
        scattered(adapter, 1)
        apart = through(adapter, inputs)
        tolerances = {"rtol": 1e-5, "atol": 2e-6}  # REDUCTION, of sums of two products
        np.testing.assert_allclose(merged(adapter, inputs), apart, **tolerances, err_msg=equation)
        assert not np.allclose(plain, apart, atol=1e-4), equation


@pytest.mark.parametrize("name", METHODS)
def test_convolutions_with_channels_first(name):
    """By XLA, which alone computes them on a processor; without biases, which it adds wrongly.

    Seen with TensorFlow 2.21.0 and Keras 3.15.1: a plain Conv2D is not its own in the other format.
    """
    shape = (2, 4, 6, 6)
    first = {"data_format": "channels_first", "use_bias": False}
    for layer, inputs in (
        (keras.layers.Conv2D(6, 3, groups=2, padding="same", **first), shape),
        (keras.layers.Conv1D(6, 3, dilation_rate=2, padding="causal", **first), shape[:3]),
        (keras.layers.Conv3D(6, 2, strides=2, **first), (*shape, 6)),
        (keras.layers.DepthwiseConv2D(3, padding="same", **first), shape),
    ):
        layer.build(inputs)
        adapter = METHODS[name].adapter(scattered(layer), "layer")
        inputs = keras.random.normal(inputs, seed=0)
        plain = tf.function(layer, jit_compile=True)(inputs)
        with acting(adapter):
            fresh = tf.function(layer, jit_compile=True)(inputs)
            scattered(adapter, 1)
            apart = tf.function(layer, jit_compile=True)(inputs)
        with with_values(adapter.merged()):
            together = tf.function(layer, jit_compile=True)(inputs)
        np.testing.assert_allclose(plain, fresh, **REDUCTION)  # XLA fuses otherwise
        np.testing.assert_allclose(together, apart, **REDUCTION)
        assert not np.allclose(plain, apart, atol=1e-4)
