"""Each formula against a float64 reference, and gradients against their closed forms."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import FineTuner, peft
from tests.peft.layers import acting, dense, double, merged, scattered, through
from tests.peft.peft_cases import adapted, outputs, rows, tuner
from tests.tolerances import REDUCTION

# Two products of the size of the outputs, or larger, are taken from one another.
CANCELLING = {"rtol": 1e-5, "atol": 5e-6}

X = np.random.default_rng(7).normal(size=(6, 5)).astype("float32")
SLOPE = np.random.default_rng(8).normal(size=(6, 4)).astype("float32")  # of the loss by outputs


def slopes(adapter, variables):
    """Gradients of `sum(SLOPE * layer(X))`."""
    with acting(adapter), tf.GradientTape() as tape:
        loss = tf.reduce_sum(SLOPE * adapter.beside.layer(X))
    return [np.asarray(slope) for slope in tape.gradient(loss, [v.value for v in variables])]


def dora_by_hand(adapter):
    """`(outputs, g, W + s A B, lengths of that)` by equations 5 and 6 of DoRA."""
    layer, lora = adapter.beside.layer, adapter.lora
    kernel, bias = double(layer.kernel), double(layer.bias)
    turned = kernel + lora.scale * double(lora.a) @ double(lora.b)
    lengths = np.linalg.norm(turned, axis=0)
    gains = (np.linalg.norm(kernel, axis=0) + double(adapter.magnitude)) / lengths
    return X @ (gains * turned) + bias, gains, turned, lengths


def test_dora():
    adapter = scattered(peft.DoRA(rank=2, alpha=3.0).adapter(dense(), "dense"), 1)
    assert adapter.lora.scale == pytest.approx(3 / np.sqrt(2))
    wanted = dora_by_hand(adapter)[0]
    np.testing.assert_allclose(through(adapter, X), wanted, **REDUCTION)
    np.testing.assert_allclose(merged(adapter, X), wanted, **REDUCTION)


def test_the_norm_of_dora_carries_no_gradient():
    """With the norm a constant, y = g x (W + s A B): dB = s (x A)ᵀ (g dy), dA = s xᵀ (g dy) Bᵀ."""
    adapter = scattered(peft.DoRA(rank=2).adapter(dense(), "dense"), 1)
    lora = adapter.lora
    _, gains, turned, lengths = dora_by_hand(adapter)
    a, b, scaled = double(lora.a), double(lora.b), SLOPE * gains
    of_a, of_b, of_magnitude = slopes(adapter, [lora.a, lora.b, adapter.magnitude])
    np.testing.assert_allclose(of_b, lora.scale * (X @ a).T @ scaled, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_a, lora.scale * X.T @ scaled @ b.T, rtol=1e-5, atol=1e-5)
    by_hand = (SLOPE * (X @ turned / lengths)).sum(axis=0)
    np.testing.assert_allclose(of_magnitude, by_hand, rtol=1e-5, atol=1e-5)


def test_dora_of_a_column_of_zeros_is_finite_and_learns():
    layer = dense()
    layer.kernel.assign(np.zeros((5, 4)))
    adapter = peft.DoRA(rank=2).adapter(layer, "dense")
    assert np.array_equal(through(adapter, X), np.tile(layer.bias.numpy(), (6, 1)))
    of_b, of_magnitude = slopes(adapter, [adapter.lora.b, adapter.magnitude])
    assert np.isfinite(of_magnitude).all() and np.isfinite(of_b).all() and of_b.all()


def test_pissa():
    """The base less its principal part, and that part as it is now: equations 3 to 5."""
    layer = dense()
    adapter = peft.PiSSA(rank=2, alpha=4.0).adapter(layer, "dense")
    kernel, scale = double(layer.kernel), 2.0
    u, s, vt = np.linalg.svd(kernel, full_matrices=False)
    principal = (u[:, :2] * s[:2]) @ vt[:2]
    product = scale * double(adapter.lora.a) @ double(adapter.lora.b)
    np.testing.assert_allclose(product, principal, **REDUCTION)
    roots = np.sqrt(s[:2] / scale)  # A and B share the singular values
    np.testing.assert_allclose(np.linalg.norm(double(adapter.lora.a), axis=0), roots, **REDUCTION)
    np.testing.assert_allclose(np.linalg.norm(double(adapter.lora.b), axis=1), roots, **REDUCTION)
    scattered(adapter, 1)
    now = scale * double(adapter.lora.a) @ double(adapter.lora.b)
    wanted = X @ (kernel - principal + now) + double(layer.bias)
    np.testing.assert_allclose(through(adapter, X), wanted, **CANCELLING)
    assert np.array_equal(layer.kernel.numpy(), kernel)  # the base is not edited


def test_pissa_drops_the_part_that_trains_and_not_the_base():
    """As the paper's edit of the base would: with everything dropped, W - s A0 B0 is left."""
    _, model = tuner("bert")
    path = "transformer_layer_1/feedforward_intermediate_dense"
    peft.add(model, peft.PiSSA(rank=2, dropout=0.5), path)
    inputs, _ = rows(model)
    infers, trains = (np.asarray(model(inputs, training=mode)) for mode in (False, True))
    assert not np.allclose(infers, trains, atol=1e-4)


def test_shira_moves_its_places_and_no_others():
    layer = dense(20, 30)
    adapter = scattered(peft.SHiRA(share=0.02).adapter(layer, "dense"), 1)
    ((variable, value),) = adapter.merged()
    before, after = variable.numpy().ravel(), np.asarray(value).ravel()
    places = adapter.places.numpy()
    assert len(set(places)) == 12 and places.dtype == np.int32
    untouched = np.setdiff1d(np.arange(600), places)
    assert np.array_equal(before[untouched], after[untouched])
    assert np.array_equal(after[places], before[places] + adapter.values.numpy())
    x = np.random.default_rng(0).normal(size=(3, 20)).astype("float32")
    assert np.array_equal(through(adapter, x), merged(adapter, x))


def test_shira_takes_the_largest():
    layer = dense()
    adapter = peft.SHiRA(share=0.25, choice="magnitude").adapter(layer, "dense")
    magnitudes = np.sort(np.abs(layer.kernel.numpy()).ravel())
    chosen = np.abs(layer.kernel.numpy()).ravel()[adapter.places.numpy()]
    assert np.array_equal(np.sort(chosen), magnitudes[-5:])


def test_the_gradient_of_shira_is_that_of_the_kernel_at_its_places():
    adapter = scattered(peft.SHiRA(share=0.3).adapter(dense(), "dense"), 1)
    (found,) = slopes(adapter, [adapter.values])
    wanted = (X.astype("float64").T @ SLOPE).ravel()[adapter.places.numpy()]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


SEEDED = """
import json, keras, numpy as np
from kerastl import peft
layer = keras.layers.Dense(4)
layer.build((None, 5))
places = peft.SHiRA(share=0.3, seed=5).adapter(layer, "some/path").places.numpy()
a, b = peft.VeRA(rank=2, seed=5).adapter(layer, "some/path").factors()
print(json.dumps([places.tolist(), (np.asarray(a, 'float64') / 0.1).ravel().tolist()]))
"""


def test_what_a_seed_draws_is_the_same_in_another_process():
    done = subprocess.run(
        [sys.executable, "-c", SEEDED], check=True, capture_output=True, text=True
    )
    places, left = map(np.array, json.loads(done.stdout.splitlines()[-1]))
    layer = dense()
    mine = peft.SHiRA(share=0.3, seed=5)
    assert np.array_equal(places, mine.adapter(layer, "some/path").places.numpy())
    assert not np.array_equal(places, mine.adapter(layer, "other/path").places.numpy())
    # By hand: uniform in ±sqrt(6 / 5), from the seed and 0.
    wanted = np.random.RandomState([5, 0]).uniform(-1, 1, (5, 2)) * np.sqrt(6 / 5)
    np.testing.assert_allclose(left, wanted.ravel(), **REDUCTION)


def test_vera():
    """h = W x + b ∘ (B (d ∘ (A x))), equation 2."""
    layer = dense()
    adapter = scattered(peft.VeRA(rank=3, seed=4).adapter(layer, "dense"), 1)
    a = np.random.RandomState([4, 0]).uniform(-1, 1, (5, 3)) * np.sqrt(6 / 5)
    b = np.random.RandomState([4, 1]).uniform(-1, 1, (4, 3)).T * np.sqrt(6 / 3)
    hidden = (X @ a) * double(adapter.d)
    wanted = X @ double(layer.kernel) + (hidden @ b) * double(adapter.b) + double(layer.bias)
    np.testing.assert_allclose(through(adapter, X), wanted, **REDUCTION)
    np.testing.assert_allclose(merged(adapter, X), wanted, **REDUCTION)


def test_layers_share_the_matrices_of_vera_and_no_file_holds_them():
    _, model = adapted("vera")
    members = model.adapter_bank.named["default"].members
    assert {len(one.weights) for one in members} == {2}
    by_size = {}
    for one in members:
        by_size.setdefault(one.linear.num_inputs, set()).add(id(one._left.tensor))
    assert len(members) == 12 and {size: len(ids) for size, ids in by_size.items()} == {8: 1, 16: 1}
    wide = next(one for one in members if one.linear.num_inputs == 16)
    thin = next(one for one in members if one.linear.num_inputs == 8)
    assert np.array_equal(wide._left.tensor[:8], thin._left.tensor)


def test_ia3():
    layer = dense(activation="relu")
    kernel, bias = double(layer.kernel), double(layer.bias)
    scaled = scattered(peft.IA3().adapter(layer, "self_attention/key"), 1)
    wanted = np.maximum(double(scaled.scale) * (X @ kernel + bias), 0)
    np.testing.assert_allclose(through(scaled, X), wanted, **REDUCTION)
    np.testing.assert_allclose(merged(scaled, X), wanted, **REDUCTION)
    scaled = scattered(peft.IA3().adapter(layer, "layer_0/feedforward_output_dense"), 1)
    wanted = np.maximum((double(scaled.scale) * X) @ kernel + bias, 0)
    np.testing.assert_allclose(through(scaled, X), wanted, **REDUCTION)
    np.testing.assert_allclose(merged(scaled, X), wanted, **REDUCTION)


def test_ia3_of_zero_is_merged_and_restored():
    """A scale of zero cannot be divided back: the originals are kept."""
    base, model = adapted("ia3")
    before = [weight.numpy() for weight in base.weights]
    for one in model.adapter_bank.named["default"].members:
        one.scale.assign(np.zeros(one.scale.shape))
    peft.merge(model)
    peft.restore(model)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, base.weights, strict=True))


def vit():
    keras_hub = pytest.importorskip("keras_hub")
    return keras_hub.models.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16
    )


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "vit"])
def test_ia3_finds_keys_values_and_the_second_feed_forward_layer(kind):
    model = FineTuner.from_model(vit()) if kind == "vit" else tuner(kind)[1]
    added = peft.add(model, peft.IA3())
    names = [path.rsplit("/", 1)[-1] for path in added.paths]
    second = "dense_2" if kind == "vit" else "feedforward_output_dense"
    count = 1 if kind == "vit" else 2
    assert sorted(names) == sorted(count * ["key", "value", second])
    width = 4 if kind == "llama" else 8  # of keys and values: one head of four, or two
    assert added.weights == count * (2 * width + 16)


@pytest.mark.parametrize("name", ["norms", "norms-conv"])
def test_norms(name):
    """Scale and offset of each, moved by hand, give what the adapter gives."""
    _, model = adapted(name)
    members = model.adapter_bank.named["default"].members
    kinds = {type(one.beside.layer).__name__ for one in members}
    assert kinds == {"LlamaLayerNorm" if name == "norms" else "BatchNormalization"}
    assert len(members) == (5 if name == "norms" else 2)
    for seed, one in enumerate(members):
        scattered(one, seed)
    apart = outputs(model)
    changes = [[change.numpy() for change in one.changes] for one in members]
    layers = [one.beside.layer for one in members]
    peft.unload(model)
    for layer, values in zip(layers, changes, strict=True):
        for weight, value in zip(layer.trainable_weights, values, strict=True):
            weight.assign_add(value)
    np.testing.assert_allclose(outputs(model), apart, **REDUCTION)


def test_norms_that_fit():
    layers = keras.layers
    for layer in (layers.GroupNormalization(2), layers.RMSNormalization()):
        layer.build((None, 4))
        assert peft.NormTuning().fits(layer)
    for layer in (layers.UnitNormalization(), layers.Normalization(), layers.Dense(4)):
        layer.build((None, 4))
        assert not peft.NormTuning().fits(layer)


def test_the_gradient_of_b_after_one_step_is_its_closed_form():
    """dB = s (x A)ᵀ dy: one step of SGD moves B by -rate times that."""
    inputs = keras.Input((5,))
    layer = keras.layers.Dense(4, name="block_1_dense")
    model = FineTuner(inputs, layer(inputs))
    peft.add(model, peft.LoRA(rank=2, alpha=3.0), "block_1_dense", also_train=())
    (adapter,) = model.adapter_bank.named["default"].members
    a, targets = double(adapter.a), SLOPE
    kernel = double(layer.kernel)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, targets, batch_size=6, epochs=1, verbose=0)
    slope = 2 * (X @ kernel - targets) / targets.size
    wanted = -0.1 * 3 / np.sqrt(2) * (X @ a).T @ slope
    np.testing.assert_allclose(adapter.b.numpy(), wanted, **REDUCTION)
    assert np.array_equal(adapter.a.numpy(), a)  # B was zero, and so was its slope


def test_lora_plus_is_a_multiplier():
    """B moves by sixteen times the rate of A: both steps by hand."""
    inputs = keras.Input((5,))
    layer = keras.layers.Dense(4, name="block_1_dense")
    model = FineTuner(inputs, layer(inputs))
    peft.add(model, peft.LoRA(rank=2, alpha=2.0, scaling="lora"), "block_1_dense", also_train=())
    (adapter,) = model.adapter_bank.named["default"].members
    scattered(adapter, 1)
    kernel, a, b = double(layer.kernel), double(adapter.a), double(adapter.b)
    model.compile(keras.optimizers.SGD(0.01), "mse", multipliers={".*/lora_b": 16.0})
    model.fit(X, SLOPE, batch_size=6, epochs=1, verbose=0)
    slope = 2 * (X @ (kernel + a @ b) - SLOPE) / SLOPE.size
    np.testing.assert_allclose(adapter.a.numpy(), a - 0.01 * X.T @ slope @ b.T, **REDUCTION)
    np.testing.assert_allclose(adapter.b.numpy(), b - 0.16 * (X @ a).T @ slope, **REDUCTION)


def test_several_on_one_layer_add_up():
    """A bias, some entries of a kernel and a product, in every order; each reads what it holds."""
    methods = {"bias": peft.BitFit(), "sparse": peft.SHiRA(share=0.3), "low": peft.LoRA(rank=1)}
    for order in (list(methods), list(methods)[::-1]):
        inputs = keras.Input((5,))
        layer = keras.layers.Dense(4, name="block_1_dense", activation="tanh")
        model = FineTuner(inputs, layer(inputs))
        scattered(layer)
        for name, method in methods.items():
            peft.add(model, method, "block_1_dense", name=name, also_train=())
            scattered(model.adapter_bank.named[name].members[0], len(name))
        peft.activate(model, order)
        apart = np.asarray(model(X))
        (bias,), (sparse,), (low,) = (model.adapter_bank.named[n].members for n in methods)
        kernel = double(layer.kernel).ravel()
        kernel[sparse.places.numpy()] += double(sparse.values)
        kernel = kernel.reshape(5, 4) + low.scale * double(low.a) @ double(low.b)
        wanted = np.tanh(X @ kernel + double(layer.bias) + double(bias.bias))
        np.testing.assert_allclose(apart, wanted, **REDUCTION)
        peft.merge(model)
        np.testing.assert_allclose(np.asarray(model(X)), apart, **REDUCTION)


def test_a_stateless_call_reaches_what_adapters_read():
    """Keras asks the innermost scope alone; values given from outside count in it, too."""
    _, model = adapted("shira")
    inputs, _ = rows(model)
    moved = [0.5 * weight.numpy() for weight in model.trainable_variables]
    still = [0.5 * v.numpy() if v.dtype == "float32" else v.numpy()
             for v in model.non_trainable_variables]  # fmt: skip
    given, _ = model.stateless_call(moved, still, inputs, training=False)
    for variable, value in (*zip(model.trainable_variables, moved, strict=True),
                            *zip(model.non_trainable_variables, still, strict=True)):  # fmt: skip
        variable.assign(value)
    np.testing.assert_allclose(np.asarray(given), outputs(model), **REDUCTION)


def test_methods_refuse():
    _, model = tuner("conv")
    with pytest.raises(ValueError, match=r"IA3 scales keys.*NormTuning"):
        peft.add(model, peft.IA3())
    with pytest.raises(ValueError, match=r"Dense and EinsumDense alone.*Conv2D"):
        peft.add(model, peft.IA3(inputs=".*_conv"), "block_2_conv")
    with pytest.raises(ValueError, match=r"at most 4.*block_1_conv.*rank=5"):
        peft.add(model, peft.PiSSA(rank=5), "block_1_conv")
    with pytest.raises(ValueError, match=r"NormTuning acts on LayerNormalization.*Conv2D"):
        peft.add(model, peft.NormTuning(), "block_1_conv")
    assert model.adapter_bank is None
    for method in (peft.DoRA(rank=1), peft.IA3()):
        name = type(method).__name__
        peft.add(model, method, "block_2_conv", name=name)
        peft.add(model, peft.LoRA(rank=1), "block_2_conv", name=f"{name}-other")
        with pytest.raises(ValueError, match=r"do not add up"):
            peft.activate(model, [name, f"{name}-other"])
    layer = dense(8, 8)
    layer.quantize("int8")
    for method in (peft.DoRA(), peft.PiSSA(), peft.SHiRA()):
        with pytest.raises(ValueError, match=r"quantized \(int8\)"):
            method.adapter(layer, "dense")


def test_settings_refuse():
    for wrong, message in (
        (lambda: peft.DoRA(rank=0), "rank"),
        (lambda: peft.PiSSA(dropout=1.0), "dropout"),
        (lambda: peft.SHiRA(share=0.0), "share"),
        (lambda: peft.SHiRA(choice="largest"), "random, magnitude"),
        (lambda: peft.SHiRA(seed=-1), "seed"),
        (lambda: peft.VeRA(rank=0), "rank"),
        (lambda: peft.VeRA(start=0.0), "start"),
        (lambda: peft.IA3(inputs="("), "regex"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
    with pytest.raises(ValueError, match=r"bias of shape \(2,\)"):
        _shared_bias().merged()


def _shared_bias():
    """IA3 on outputs that share a bias and have scales of their own."""
    layer = keras.layers.EinsumDense("abc,cde->abde", (None, 3, 2), bias_axes="e")
    layer.build((None, 5, 4))
    return peft.IA3().adapter(layer, "some/key")
