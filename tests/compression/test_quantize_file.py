"""The report of quantization says what the file does, and there is a file for each graph."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

from kerastl.compression import quantization_report, quantize_aware
from kerastl.export import to_litert
from kerastl.export.flatbuffer import operation_table
from kerastl.export.litert_model import LiteRTModel
from tests.compression import quantize_cases as cases
from tests.compression.quantize_cases import conv


def sequence(x):
    return kl.Reshape((16, 6))(kl.Conv2D(6, 2, strides=2)(x))


def attention(layer):
    return lambda x: (lambda h: layer(h, h))(sequence(x))


def halves(split, join):
    return lambda x: (lambda parts: join(parts[0], parts[1]))(split(x))


COMPUTES_IN_INT8 = {
    "transposed relu": lambda x: conv()(kl.Conv2DTranspose(5, 2, 2, activation="relu")(x)),
    "transposed relu6 without bias": lambda x: kl.Conv2DTranspose(
        5, 2, 2, activation="relu6", use_bias=False)(x),
    "transposed norm relu": lambda x: conv()(kl.ReLU()(kl.BatchNormalization()(
        kl.Conv2DTranspose(5, 2, strides=2)(x)))),
    "exponential": lambda x: kl.Activation("exponential")(x),
    "sequence": lambda x: kl.UpSampling1D(2)(kl.Cropping1D(1)(kl.ZeroPadding1D(2)(kl.Conv1D(
        5, 3, activation="relu")(sequence(x))))),
    "einsum": lambda x: kl.EinsumDense("abc,cd->abd", (None, 5))(sequence(x)),
    "matmul": lambda x: (lambda h: ops.matmul(h, ops.transpose(h, (0, 2, 1))))(sequence(x)),
    "absolute": lambda x: ops.abs(x),
    "flipped": lambda x: ops.flip(x, axis=1),
    "sum": lambda x: ops.sum(x, axis=(1, 2)),
    "split": halves(lambda x: ops.split(x, 2, axis=-1), ops.add),
    "split and convolved": halves(
        lambda x: ops.split(x, 2, axis=-1), lambda a, b: ops.concatenate([conv()(a), b], axis=-1)),
    "array split": halves(lambda x: ops.array_split(x, 2, axis=-1), ops.multiply),
    "unstacked": halves(lambda x: ops.unstack(sequence(x)[:, :2], axis=1), ops.add),
}  # fmt: skip
STAYS_FLOAT = {
    "attention": (attention(kl.MultiHeadAttention(2, 4)), "MultiHeadAttention"),
    "attention of groups": (attention(kl.GroupQueryAttention(4, 4, 2)), "GroupedQueryAttention"),
    "attention after a permutation": (lambda x: permuted(x), "MultiHeadAttention"),
    "elu of a transposed convolution": (
        lambda x: kl.Conv2DTranspose(5, 2, strides=2, activation="elu")(x),
        "elu has no int8 kernel",
    ),
    "mean and variance": (
        halves(lambda x: ops.moments(sequence(x), axes=[1]), ops.add),
        "Moments has no int8 kernel",
    ),
}


def permuted(x):
    h = kl.Permute((2, 1))(sequence(x))
    return kl.MultiHeadAttention(2, 4)(h, h)


def pooled(x):
    if len(x.shape) == 4:
        x = kl.GlobalAveragePooling2D()(x)
    return kl.GlobalAveragePooling1D()(x) if len(x.shape) == 3 else x


def network(*makes):
    """A branch for each of `makes`, on one convolution."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(cases.SHAPE)
    x = conv(name="entry")(inputs)
    parts = [pooled(make(x)) for make in makes]
    x = kl.Concatenate()(parts) if len(parts) > 1 else parts[0]
    model = keras.Model(inputs, kl.Dense(5, name="scores")(x))
    cases.enliven(model)
    return model


def written(path, *makes):
    """A quantized model, trained a step, its file, and what computes in float there."""
    quantized = quantize_aware(network(*makes), cases.pictures())
    quantized.compile(keras.optimizers.SGD(1e-4), "mse")
    quantized.fit(cases.pictures(16), np.zeros((16, 5)), verbose=0)
    to_litert(quantized, path, quantization="int8")
    with open(path, "rb") as file:
        rows = operation_table(file.read())
    return quantized, {row.op for row in rows if row.in_float} - {"QUANTIZE", "DEQUANTIZE"}


def assert_repeats(path, model):
    """The file answers as the model does, to two of the steps of its answers."""
    x = cases.pictures(16, seed=1)
    file = LiteRTModel(path)
    (got,) = file.run({file.inputs[0].name: x}).values()
    want = model.predict(x, verbose=0)
    scores = model.get_layer("scores_range")
    step = float(scores.maximum - scores.minimum) / 255
    assert np.abs(got - want).max() <= 4 * step


# A conversion takes seconds, so several ways share one file; each has its own in the slow tier.
FILES = [list(COMPUTES_IN_INT8)[i::3] for i in range(3)]
ALONE = [pytest.param([name], marks=pytest.mark.slow, id=name) for name in COMPUTES_IN_INT8]


@pytest.mark.slow_but("names0")
@pytest.mark.parametrize("names", [*FILES, *ALONE])
def test_what_the_report_calls_int8_is_int8_in_the_file(names, tmp_path):
    path = str(tmp_path / "model.tflite")
    quantized, in_float = written(path, *(COMPUTES_IN_INT8[name] for name in names))
    assert quantization_report(quantized).floats == {} and not in_float
    assert_repeats(path, quantized)


@pytest.mark.slow_but("names1")
@pytest.mark.filterwarnings("ignore:These operations stayed float32")
@pytest.mark.parametrize("names", [
    list(STAYS_FLOAT)[:3],
    list(STAYS_FLOAT)[3:],
    *(pytest.param([name], marks=pytest.mark.slow, id=name) for name in STAYS_FLOAT),
])  # fmt: skip
def test_what_stays_float_is_said_at_the_start_and_the_rest_is_written(names, tmp_path):
    path = str(tmp_path / "model.tflite")
    quantized, in_float = written(path, *(STAYS_FLOAT[name][0] for name in names))
    said = list(quantization_report(quantized).floats.values())
    assert len(said) == len(names)
    for name in names:
        assert any(STAYS_FLOAT[name][1] in reason for reason in said), (name, said)
    assert in_float
    assert_repeats(path, quantized)


@pytest.mark.parametrize("scale", [1 / 255, 1.0])
def test_data_of_another_range_than_the_model_takes_are_refused(scale):
    inputs = keras.Input((8, 8, 3), name="image")
    x = kl.GlobalAveragePooling2D()(conv()(kl.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, kl.Dense(2)(x))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3)).astype("float32")
    if scale == 1:
        quantize_aware(model, pixels)
        return
    with pytest.raises(ValueError, match=r"`data` for input 'image' lies in .* takes \[0, 255\]"):
        quantize_aware(model, pixels * scale)
