"""Adapters beside a base that Keras quantized to int8, and what is refused there."""

import gc
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import FineTuner, peft
from kerastl.peft.linear import linear_of
from tests.peft.peft_cases import bert, compiled, conv, gpt2, moved, outputs, rows, tuner, values
from tests.tolerances import REDUCTION

QUANTIZED = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding)


def quantized(model, mode="int8", **kwargs):
    """`model` after `quantize`, without Keras's warnings of layers that it leaves alone."""
    gc.freeze()  # Keras collects garbage for each kernel that it drops
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.quantize(mode, **kwargs)
    gc.unfreeze()
    return model


def with_head(base, key="pooled_output"):
    features = base.output[key] if isinstance(base.output, dict) else base.output
    head = keras.layers.Dense(3, name="head", dtype="float32")(features)
    return FineTuner.from_model(keras.Model(base.input, head))


def int8_bert(method, where=None, dtype=None):
    base = quantized(bert(dtype))
    model = with_head(base)
    peft.add(model, method, where)
    return base, model


def num_bytes(model):
    return sum(int(np.prod(v.shape)) * v.value.dtype.size for v in model.variables)


@pytest.mark.slow_but("method0-where0")
@pytest.mark.parametrize(
    ("method", "where"),
    [
        (peft.LoRA(rank=2, dropout=0.2), ("token_embedding", ".*_0/.*query", ".*_1/.*dense")),
        (peft.BitFit(), ".*query"),
    ],
)
def test_it_trains_alone_and_a_loaded_model_trains_on(method, where, tmp_path):
    keras.utils.set_random_seed(1)
    plain = with_head(quantized(bert()))
    keras.utils.set_random_seed(1)
    base, model = int8_bert(method, where)
    plain.get_layer("head").set_weights(model.get_layer("head").get_weights())
    assert np.array_equal(outputs(plain), outputs(model))
    before, old = values(base), values(model.adapter_bank)
    compiled(model, keras.optimizers.Adam(0.03))
    inputs, targets = rows(model)
    options = {"batch_size": 4, "epochs": 1, "verbose": 0}
    model.fit(inputs, targets, **options)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(base), strict=True))
    pairs = zip(old, model.adapter_bank.weights, strict=True)
    assert all(not np.array_equal(a, v) for a, v in pairs if v.trainable)
    apart = outputs(model)
    with peft.disabled(model):
        plain.get_layer("head").set_weights(model.get_layer("head").get_weights())
        assert np.array_equal(outputs(plain), outputs(model))
    assert not np.array_equal(outputs(plain), apart)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(outputs(model), outputs(loaded))
    assert num_bytes(loaded) == num_bytes(model)
    more = [one.fit(inputs, targets, **options).history for one in (model, loaded)]
    assert more[0] == more[1]
    with pytest.raises(ValueError, match=r"is quantized \(int8\)"):
        peft.merge(model)


def test_a_kernel_takes_a_byte_a_weight_and_no_floats_stay():
    """All but the kernels' scales: 4 bytes a column, a row of an embedding, or a head's depth."""
    floats, base = bert(), quantized(bert())
    kernels = [layer for layer in base._flatten_layers() if layer.quantization_mode == "int8"]
    sizes = [int(np.prod(linear_of(layer).layer._kernel.shape)) if hasattr(layer, "_kernel")
             else int(np.prod(layer._embeddings.shape)) for layer in kernels]  # fmt: skip
    scales = sum(4 * int(np.prod(v.shape)) for v in base.variables if v.path.endswith("_scale"))
    assert num_bytes(floats) - num_bytes(base) == 3 * sum(sizes) - scales
    held = [v for layer in kernels for v in layer.variables if v.dtype == "int8"]
    assert len(held) == len(kernels) and not any(v.trainable for v in held)


def test_gradients_pass_an_int8_layer_as_they_pass_its_floats():
    """dB = s (x A)^T (dy W2^T relu'), W2 dequantized, by hand in float64."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(6, activation="relu", name="block_1_dense")(inputs)
    output = keras.layers.Dense(4, name="block_2_dense")(hidden)
    base = quantized(keras.Model(inputs, output))
    model = FineTuner.from_model(base)
    peft.add(model, peft.LoRA(rank=2, alpha=3.0), "block_1_dense", also_train=())
    moved(model)
    (adapter,) = model.adapter_bank.named["default"].members
    x = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    with tf.GradientTape() as tape:
        given = model(x, training=True)
        loss = keras.ops.sum(given * given)
    slope = tape.gradient(loss, adapter.b.value)

    first, second = (base.get_layer(name) for name in ("block_1_dense", "block_2_dense"))
    assert first.quantization_mode == second.quantization_mode == "int8"
    hidden = np.asarray(first(x), "float64")  # with the adapter, after the activation
    kernel = np.asarray(second._kernel, "float64") / np.asarray(second.kernel_scale, "float64")
    upstream = (2 * np.asarray(given, "float64")) @ kernel.T * (hidden > 0)
    by_hand = adapter.scale * (x.astype("float64") @ np.asarray(adapter.a)).T @ upstream
    np.testing.assert_allclose(slope, by_hand, rtol=1e-5, atol=1e-5)


def test_an_adapter_comes_before_the_activation_of_an_int8_layer():
    inputs = keras.Input((5,))
    output = keras.layers.Dense(6, activation="relu", name="block_1_dense")(inputs)
    base = quantized(keras.Model(inputs, output))
    layer = base.get_layer("block_1_dense")
    x = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    layer.activation = keras.activations.linear
    before = np.asarray(layer(x))
    layer.activation = keras.activations.relu
    model = FineTuner.from_model(base)
    peft.add(model, peft.LoRA(rank=2), "block_1_dense", also_train=())
    moved(model)
    (adapter,) = model.adapter_bank.named["default"].members
    wanted = np.maximum(before + x @ np.asarray(adapter.change()), 0)
    np.testing.assert_allclose(model(x), wanted, **REDUCTION)


def test_matrices_of_int8_kernels_have_the_shapes_of_the_floats():
    floats, int8 = (list(one._flatten_layers()) for one in (bert(), quantized(bert())))
    checked = 0
    for one, other in zip(floats, int8, strict=True):
        if isinstance(one, QUANTIZED):
            shapes = [linear_of(layer).shapes(3) for layer in (one, other)]
            assert shapes[0] == shapes[1] and other.quantization_mode == "int8"
            checked += 1
    assert checked == 15


def test_rows_of_an_int8_embedding():
    base, model = int8_bert(peft.LoRA(tokens=[3, 7]), "token_embedding")
    (adapter,) = model.adapter_bank.named["default"].members
    ids = np.array([[1, 3, 7, 3]])
    layer = base.get_layer("token_embedding")
    before = np.asarray(layer(ids))
    adapter.rows.assign([np.arange(8), np.ones(8)])
    change = np.stack([np.zeros(8), np.arange(8), np.ones(8), np.arange(8)])
    np.testing.assert_allclose(layer(ids)[0], before[0] + change, **REDUCTION)


def test_a_half_base():
    _, model = int8_bert(peft.LoRA(rank=2), dtype="mixed_bfloat16")
    compiled(model).fit(*rows(model), batch_size=4, epochs=1, verbose=0)
    assert {v.dtype for v in model.adapter_bank.trainable_variables} == {"float32"}


def test_convolutions_stay_floats_and_so_does_an_adapter_on_them():
    base = conv()
    kernel = base.get_layer("block_1_conv").kernel.numpy()
    model = with_head(quantized(base))
    assert np.array_equal(kernel, base.get_layer("block_1_conv").kernel.numpy())
    peft.add(model, peft.LoRA(rank=2))
    moved(model)
    apart = outputs(model)
    peft.merge(model)
    np.testing.assert_allclose(outputs(model), apart, **REDUCTION)


def test_an_int8_embedding_read_backwards_is_refused_since_keras_cuts_its_gradient():
    base = gpt2()
    embedding = base.get_layer("token_embedding")
    logits = embedding(base.output, reverse=True)
    model = FineTuner.from_model(quantized(keras.Model(base.input, logits)))
    with pytest.raises(ValueError, match=r"read backwards.*filters=lambda"):
        peft.add(model, peft.LoRA(rank=2), also_train=())
    hidden = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 8)), "float32")
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        loss = keras.ops.sum(embedding(hidden, reverse=True))
    slope = np.asarray(tape.gradient(loss, hidden))
    # That of the scale, which the largest input sets. If it fails, Keras mended it: do not refuse.
    assert np.count_nonzero(slope) == 6

    base = gpt2()
    logits = base.get_layer("token_embedding")(base.output, reverse=True)
    network = keras.Model(base.input, logits)
    quantized(network, filters=lambda layer: layer.name != "token_embedding")
    model = FineTuner.from_model(network)
    peft.add(model, peft.LoRA(rank=2), also_train=())
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(model(rows(model)[0], training=True) ** 2)
    slopes = tape.gradient(loss, [v.value for v in model.adapter_bank.trainable_variables])
    assert any(np.any(slope) for slope in slopes)


@pytest.mark.parametrize("mode", ["int4", "float8"])
def test_other_modes_are_refused_by_name(mode):
    model = with_head(quantized(bert(), mode))
    with pytest.raises(ValueError, match=rf"quantized to {mode}"):
        peft.add(model, peft.LoRA(rank=2))
    assert model.adapter_bank is None


def test_a_head_that_is_quantized_does_not_train():
    _, model = tuner("bert")
    quantized(model)
    with pytest.raises(ValueError, match=r"'head' is to train"):
        peft.add(model, peft.LoRA(rank=2))
    peft.add(model, peft.LoRA(rank=2), also_train=())


def test_quantizing_under_an_adapter_is_refused():
    base, model = tuner("bert")
    peft.add(model, peft.LoRA(rank=2))
    with pytest.raises(ValueError, match=r"before `kerastl\.peft\.add`"):
        model.quantize("int8")
    peft.merge(model)
    quantized(base)  # past the FineTuner
    with pytest.raises(ValueError, match=r"quantized after the merge"):
        peft.restore(model)

    base, model = tuner("bert")
    peft.add(model, peft.LoRA(rank=2))
    quantized(base)
    with pytest.raises(RuntimeError, match=r"quantized after an adapter"):
        outputs(model)
