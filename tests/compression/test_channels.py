"""Channels that go really leave, with all that depends on them and nothing else."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.compression import prune_channels, reads
from kerastl.compression.channels import scoring
from kerastl.compression.channels.groups import groups_of
from kerastl.compression.channels.scoring import Saliency
from kerastl.compression.channels.trace import trace
from kerastl.export import file_sizes
from kerastl.freezing import freeze, freeze_batch_norm
from kerastl.training import FineTuner
from tests.tolerances import REDUCTION

L = keras.layers


@pytest.fixture
def in_float64():
    """Exactness is not to be hidden by the rounding of fifty layers of float32."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(policy)


def with_live_statistics(model, x):
    """Batch normalizations with affines other than 1 and 0, and the statistics of `x`."""
    rng = np.random.default_rng(0)
    norms = [layer for layer in model.layers if isinstance(layer, L.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.beta.assign(rng.normal(0, 0.1, norm.beta.shape))
        if norm.scale:
            norm.gamma.assign(rng.uniform(0.5, 1.5, norm.gamma.shape))
        norm.momentum = 0.0
    model(x, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


AFFINE = ("bias", "gamma", "beta", "moving_mean")  # the last for those without a gamma


def silence(model, share, rng):
    """Set `share` of each group's channels to zero: filters, biases and affines."""
    found = trace(model)
    dead = set()
    for group in groups_of(found):
        count = len(group.choices) - int(len(group.choices) * (1 - share) + 0.5)
        dead.update(rng.choice(group.choices, count, replace=False).tolist())
    for key, layer in found.layers.items():
        flow = found.flows[key]
        for name, axes in flow.axes.items():
            weight = getattr(layer, name, None)
            for axis, layout in axes.items():
                is_filter = flow.makes == name and layout is flow.output
                if weight is not None and (is_filter or name in AFFINE):
                    value = np.moveaxis(weight.numpy(), axis, 0).copy()
                    value[np.isin(found.atoms.roots(layout), list(dead))] = 0
                    weight.assign(np.moveaxis(value, 0, axis))
    return dead


def silent_channels_leave_without_effect(model, x, share=0.25):
    """Prune what was silenced; the outputs must stay. Returns the report."""
    with_live_statistics(model, x)
    assert silence(model, share, np.random.default_rng(1))
    before = model(x, training=False).numpy()
    smaller, report = prune_channels(model, share, round_to=1)
    scale = np.abs(before).max()
    assert scale > 1e-3 and before.std() > 0
    np.testing.assert_allclose(
        smaller(x, training=False).numpy() / scale, before / scale, **REDUCTION
    )
    assert report.weights_after < report.weights_before == sum(w.size for w in model.get_weights())
    assert report.weights_after == sum(w.size for w in smaller.get_weights())
    return report


NETWORKS = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "VGG16": {},
    "ResNet50": {},
    "DenseNet121": {},
    "EfficientNetB0": {},
    "MobileNetV3Small": {},
}
SLOW = (
    "ResNet50V2",
    "Xception",
    "InceptionV3",
    "EfficientNetV2B0",
    "MobileNetV3Large",
    "NASNetMobile",
)


@pytest.mark.slow_but("MobileNetV2", "VGG16", "MobileNetV3Small")
@pytest.mark.parametrize(
    "name", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_silent_channels_of_a_known_network_leave_without_effect(name, in_float64):
    size = 75 if name in ("InceptionV3", "Xception") else 32
    settings = {"weights": None, "include_top": False, "pooling": "avg", **NETWORKS.get(name, {})}
    base = getattr(keras.applications, name)(input_shape=(size, size, 3), **settings)
    model = keras.Model(base.input, L.Dense(5, name="head")(base.output))
    x = np.random.default_rng(0).normal(0, 60, (4, size, size, 3))
    report = silent_channels_leave_without_effect(model, x)
    assert 0.54 < report.share_left < 0.60  # about (3 / 4)²
    narrowed = [row for row in report.layers if row.after < row.before]
    assert (
        len(narrowed) == len(report.layers) - 1
        and report["head"].reason == "is an output of the model"
    )


def test_a_residual_block_by_hand():
    """Two sums tie `stem` and `second`; `first` is free; the head loses the inputs of the sum."""
    inputs = keras.Input((8, 8, 3))
    stem = L.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="first")(stem)
    x = L.Conv2D(8, 3, padding="same", name="second")(x)
    x = L.Add()([stem, x])
    x = L.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, L.Dense(2, name="head")(x))
    stem, first, second, head = (
        model.get_layer(name) for name in ("stem", "first", "second", "head")
    )
    # Scores: the norm of a filter over its layer's mean, added over `stem` and `second`.
    stem.kernel.assign(np.ones((3, 3, 3, 8)) * np.array([1, 2, 3, 4, 5, 6, 7, 8]))
    second.kernel.assign(np.ones((3, 3, 4, 8)) * np.array([8, 1, 1, 1, 1, 1, 1, 2]))
    first.kernel.assign(np.ones((3, 3, 8, 4)) * np.array([4, 3, -2, 1]))
    smaller, report = prune_channels(model, 0.5, round_to=1)
    tied = np.array([1, 2, 3, 4, 5, 6, 7, 8]) / 4.5 + np.array([8, 1, 1, 1, 1, 1, 1, 2]) / 2
    kept = np.sort(np.argsort(tied)[4:])
    assert kept.tolist() == [0, 5, 6, 7]
    for layer, before, after in (("stem", 8, 4), ("second", 8, 4), ("first", 4, 2), ("head", 2, 2)):
        assert (report[layer].before, report[layer].after) == (before, after)
    same = np.testing.assert_array_equal
    same(smaller.get_layer("stem").kernel, stem.kernel.numpy()[..., kept])
    same(smaller.get_layer("first").kernel, first.kernel.numpy()[:, :, kept][..., [0, 1]])
    same(smaller.get_layer("second").kernel, second.kernel.numpy()[:, :, [0, 1]][..., kept])
    same(smaller.get_layer("head").kernel, head.kernel.numpy()[kept])
    assert "stem     8         4" in str(report)


def test_flatten_takes_every_place_of_a_channel():
    inputs = keras.Input((2, 2, 3))
    x = L.Conv2D(3, 1, name="conv")(inputs)
    model = keras.Model(inputs, L.Dense(2, name="head")(L.Flatten()(x)))
    model.get_layer("conv").kernel.assign(np.ones((1, 1, 3, 3)) * np.array([2, 1, 3]))
    smaller, _ = prune_channels(model, 0.34, round_to=1)
    kept = [0, 2, 3, 5, 6, 8, 9, 11]  # channels 0 and 2 of each of the four places
    head = model.get_layer("head").kernel.numpy()
    np.testing.assert_array_equal(smaller.get_layer("head").kernel, head[kept])


def branches():
    """Depth multiplier, separable, transposed, PReLU, squeeze-excite, concatenation and slots."""
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = L.BatchNormalization()(x)
    x = L.PReLU(shared_axes=[1, 2])(x)
    a = L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu")(x)
    b = L.SeparableConv2D(12, 3, depth_multiplier=2, padding="same", name="separable")(x)
    x = L.Concatenate()([a, x, b])
    x = L.BatchNormalization()(x)
    gate = L.Reshape((1, 1, 36))(L.GlobalAveragePooling2D()(x))
    gate = L.Conv2D(8, 1, activation="silu")(gate)
    x = x * (L.Conv2D(36, 1, activation="sigmoid")(gate) * 2.0)
    x = L.Conv2DTranspose(12, 3, strides=2, name="up")(x)
    shared = L.Dense(16, activation="relu", name="shared")
    y = L.Concatenate(axis=1)([shared(L.MaxPooling2D()(x)), shared(L.AveragePooling2D(2)(x))])
    y = L.Dropout(0.5)(L.Flatten()(y))
    y = L.Dense(16, activation="gelu", name="hidden")(y)
    return keras.Model(inputs, L.Dense(3, activation="softmax", name="head")(y), name="branches")


def test_silent_channels_of_every_kind_of_layer_leave_without_effect(in_float64):
    model = branches()
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3))
    report = silent_channels_leave_without_effect(model, x)
    assert [row.path for row in report.layers if row.after == row.before] == ["head"]


def test_a_fine_tuner_stays_one_and_goes_on(tmp_path):
    model = FineTuner.from_model(branches())
    freeze_batch_norm(model, affine=False)
    freeze(model, "stem")
    smaller, _ = prune_channels(model, 0.25, round_to=2, criterion="l2")
    assert isinstance(smaller, FineTuner) and smaller.name == "branches"
    assert not smaller.get_layer("stem").trainable and smaller.get_layer("shared").trainable
    assert smaller.get_layer("stem").kernel.shape[-1] == 6
    assert model.get_layer("stem").kernel.shape[-1] == 8  # the first is as it was
    smaller.compile("adam", "sparse_categorical_crossentropy", multipliers={"shared": 0.1})
    x, y = np.random.rand(16, 8, 8, 3), np.arange(16) % 3
    norm = next(layer for layer in smaller.layers if isinstance(layer, L.BatchNormalization))
    held = [*smaller.get_layer("stem").weights, norm.moving_mean, norm.moving_variance]
    before, gamma = [weight.numpy() for weight in held], norm.gamma.numpy()
    smaller.fit(x, y, batch_size=8, verbose=0)
    for was, weight in zip(before, held, strict=True):
        np.testing.assert_array_equal(was, weight.numpy())
    assert not np.array_equal(gamma, norm.gamma.numpy())
    smaller.save(tmp_path / "smaller.keras")
    loaded = keras.models.load_model(tmp_path / "smaller.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), smaller.predict(x, verbose=0))


def test_a_layer_that_is_called_twice_loses_the_same_inputs():
    left, right = keras.Input((4,), name="l"), keras.Input((4,), name="r")
    a, b = L.Dense(3, name="a"), L.Dense(3, name="b")
    shared = L.Dense(2, name="shared")
    model = keras.Model([left, right], L.Add()([shared(a(left)), shared(b(right))]))
    a.kernel.assign(np.ones((4, 3)) * np.array([1, 2, 3]))
    b.kernel.assign(np.ones((4, 3)) * np.array([3, 1, 1]))
    smaller, report = prune_channels(model, 0.34, round_to=1)
    # Sums of 0.5, 1, 1.5 and 1.8, 0.6, 0.6: the second goes, from both.
    np.testing.assert_array_equal(smaller.get_layer("a").kernel[0], [1, 3])
    np.testing.assert_array_equal(smaller.get_layer("b").kernel[0], [3, 1])
    assert (report["shared"].after, smaller.get_layer("shared").kernel.shape) == (2, (2, 2))


def test_nested_models_and_named_inputs_are_followed():
    base = keras.Sequential([keras.Input((8,)), L.Dense(16, name="low")], name="base")
    left, right = keras.Input((8,), name="l"), keras.Input((8,), name="r")
    model = keras.Model({"l": left, "r": right}, L.Dense(2, name="head")(base(left) - base(right)))
    smaller, report = prune_channels(model, 0.5)
    assert (report["low"].after, smaller.get_layer("head").kernel.shape[0]) == (8, 8)
    assert set(smaller.input) == {"l", "r"} and smaller.input["l"].name == "l"
    x = {"l": np.ones((2, 8)), "r": np.zeros((2, 8))}
    assert smaller.predict(x, verbose=0).shape == (2, 2)


@keras.saving.register_keras_serializable(package="tests")
class Mixes(L.Layer):
    """A layer that nobody knows."""

    def call(self, x):
        return keras.ops.flip(x, axis=-1)


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda x: Mixes(name="mixes")(x), "mixes is a Mixes, which may mix channels"),
        (lambda x: L.LayerNormalization(name="norm")(x), "norm is a LayerNormalization"),
        (lambda x: L.Softmax(name="soft")(x), "soft is a Softmax"),
        (lambda x: L.Activation("softmax", name="soft")(x), "soft mixes channels"),
        (lambda x: keras.ops.flip(x, axis=-1), "is keras.ops Flip"),
        (lambda x: x * np.arange(16.0, dtype="float32"), "is keras.ops Multiply"),
        (lambda x: L.Conv2D(16, 3, groups=4, name="grouped")(x), "grouped has 4 groups"),
        (lambda x: L.Permute((3, 2, 1), name="turn")(x), "turn is a Permute"),
        (lambda x: L.Reshape((36, 4, 4), name="split")(x), "split reshapes channels"),
        (lambda x: L.BatchNormalization(axis=1, name="rows")(x), "rows normalizes another axis"),
    ],
)
def test_channels_that_something_else_reads_stay(between, reason):
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(16, 3, name="read")(inputs)
    x = L.Conv2D(16, 1, name="free")(between(x))
    model = keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))
    smaller, report = prune_channels(model, 0.5)
    assert (report["read"].after, report["free"].after) == (16, 8)
    assert reason in report["read"].reason
    assert smaller.predict(np.ones((1, 8, 8, 3)), verbose=0).shape == (1, 2)


def tell_by_others(layer):
    """Make 4 of 8 outputs mixtures of the other 4, shuffled, and add a constant to each."""
    rng = np.random.default_rng(3)
    first = rng.normal(size=(*layer.kernel.shape[:-1], 4))
    both = np.concatenate([first, first @ rng.normal(size=(4, 4))], axis=-1)
    layer.kernel.assign(both[..., ORDER])
    layer.bias.assign(np.arange(8))


ORDER = [0, 4, 1, 5, 2, 6, 3, 7]
# What is left of a second moment as ridge, against the smallest direction of eight channels.
STEADIED = {"rtol": 1e-3, "atol": 1e-3}

READERS = {
    "convolution": [L.Conv2D(6, 3, name="reader")],
    "before a norm": [L.Conv2D(6, 3, use_bias=False, name="reader"), L.BatchNormalization()],
    "pointwise": [L.SeparableConv2D(6, 3, depthwise_initializer="ones", name="reader")],
    "dense": [L.Dense(6, activation="relu", name="reader")],
}


@pytest.mark.parametrize("kind", READERS)
def test_channels_that_others_tell_leave_without_effect(kind, monkeypatch):
    """Also where no filter is small: least squares hands over what they told, constants too."""
    monkeypatch.setattr(reads, "SHRINKAGE", 0.0)
    after = [type(layer).from_config(layer.get_config()) for layer in READERS[kind]]
    model = keras.Sequential(
        [keras.Input((9, 9, 3)), L.Conv2D(8, 3, name="told"), *after, L.Flatten()]
    )
    tell_by_others(model.get_layer("told"))
    x = np.random.default_rng(0).normal(size=(32, 9, 9, 3)).astype("float32")
    with_live_statistics(model, x)
    smaller, report = prune_channels(model, 0.5, data=x, where="told", round_to=1)
    assert report["told"].after == 4
    assert sum(w.size for w in smaller.get_weights()) < sum(w.size for w in model.get_weights())
    new = np.random.default_rng(1).normal(size=(4, 9, 9, 3)).astype("float32")
    before, after = (each.predict(new, verbose=0) for each in (model, smaller))
    np.testing.assert_allclose(after / before.std(), before / before.std(), **STEADIED)


def test_a_transposed_convolution_takes_over_without_a_constant(monkeypatch):
    monkeypatch.setattr(reads, "SHRINKAGE", 0.0)
    told, reader = L.Conv2D(8, 3, name="told"), L.Conv2DTranspose(5, 3, strides=2, name="reader")
    model = keras.Sequential([keras.Input((9, 9, 3)), told, reader, L.Flatten()])
    tell_by_others(told)
    told.bias.assign(np.zeros(8))
    x = np.random.default_rng(0).normal(size=(32, 9, 9, 3)).astype("float32")
    smaller, report = prune_channels(model, 0.5, data=x, where="told", round_to=1)
    assert report["told"].after == 4
    before, after = (each.predict(x, verbose=0) for each in (model, smaller))
    np.testing.assert_allclose(after / before.std(), before / before.std(), **STEADIED)
    told.bias.assign(np.arange(8))  # not every output has all taps: no bias makes up for it
    smaller, _ = prune_channels(model, 0.5, data=x, where="told", round_to=1)
    np.testing.assert_array_equal(smaller.get_layer("reader").bias, np.zeros(5))


def test_saliency_is_the_error_that_least_squares_leaves(monkeypatch, in_float64):
    """Against `numpy.linalg.lstsq` without each channel, with a constant."""
    monkeypatch.setattr(reads, "SHRINKAGE", 0.0)
    monkeypatch.setattr(reads, "TINY", 1e-10)
    inputs = keras.Input((6,))
    hidden = L.Dense(5, activation="relu", name="read")(inputs)
    model = keras.Model(inputs, L.Dense(3, name="reader")(hidden))
    x = np.random.default_rng(0).normal(size=(200, 6))
    found = trace(model)
    readers = scoring.read_moments(model, found, x)
    (group,) = groups_of(found)
    hidden = keras.ops.convert_to_numpy(model.layers[1](x))
    weights = model.layers[2].kernel.numpy()
    expected = []
    for j in range(5):
        others = np.c_[np.delete(hidden, j, axis=1), np.ones(200)]
        target = np.outer(hidden[:, j], weights[j])
        left = target - others @ np.linalg.lstsq(others, target, rcond=None)[0]
        expected.append(np.square(left).sum())
    energy = np.square(hidden).sum(0) @ np.square(weights).sum(1)
    scores = Saliency(found, readers).scores(group.choices)
    np.testing.assert_allclose(scores, np.array(expected) / energy, **REDUCTION)


def test_of_two_equal_channels_one_stays():
    """As things are both could go; once one has, the other tells what nobody else does."""
    inputs = keras.Input((2,))
    read, reader = L.Dense(3, name="read"), L.Dense(1, name="reader")
    model = keras.Model(inputs, reader(read(inputs)))
    read.kernel.assign([[5, 5, 0], [0, 0, 1]])
    reader.kernel.assign(np.ones((3, 1)))
    found = trace(model)
    readers = scoring.read_moments(model, found, np.random.default_rng(0).normal(size=(99, 2)))
    (group,) = groups_of(found)
    first, second, third = group.choices
    scores = Saliency(found, readers).scores(group.choices)
    assert scores[0] < scores[2] and scores[1] < scores[2]
    gone = Saliency(found, readers).pick(group.choices, 2)
    assert gone in ([first, third], [second, third])


def test_data_tell_better_than_weights():
    """A random network on smooth pictures: the outputs move much less."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.Conv2D(32, 3, padding="same", activation="relu"),
            L.Conv2D(32, 3, padding="same", activation="relu"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(64, activation="relu"),
            L.Dense(4, name="head"),
        ]
    )
    coarse = np.random.default_rng(0).normal(size=(128, 2, 2, 3))
    x = keras.ops.convert_to_numpy(keras.ops.image.resize(coarse, (8, 8))).astype("float32")
    before = model.predict(x, verbose=0)
    errors = []
    for settings in ({}, {"data": x[:64]}):
        smaller, report = prune_channels(model, 0.4, **settings)
        assert report.share_left < 0.65
        errors.append(np.square(smaller.predict(x[64:], verbose=0) - before[64:]).mean())
    assert errors[1] < 0.25 * errors[0]


def test_data_come_in_any_form():
    left, right = keras.Input((8,), name="l"), keras.Input((8,), name="r")
    x = L.Dense(32, activation="relu", name="low")(L.Concatenate()([left, right]))
    model = keras.Model({"l": left, "r": right}, L.Dense(2)(x))
    rng = np.random.default_rng(0)
    data = {"l": rng.normal(size=(40, 8)), "r": rng.normal(size=(40, 8))}
    dataset = tf.data.Dataset.from_tensor_slices((data, np.zeros(40))).batch(8)
    kernels = [
        prune_channels(model, 0.5, data=given)[0].get_layer("low").kernel.numpy()
        for given in (data, dataset, [data])
    ]
    for kernel in kernels[1:]:
        np.testing.assert_array_equal(kernel, kernels[0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((4, 5)), r"shape \(None, 4\). Received: an array of shape \(4, 5\)"),
        (np.zeros((4,)), r"Received: an array of shape \(4,\)"),
        (np.zeros((0, 4)), "at least one example"),
        ([np.zeros((4, 4)), np.zeros((4, 4))], "has 1 inputs.*Received: 2"),
    ],
)
def test_data_of_another_shape_are_refused(data, message):
    model = keras.Sequential([keras.Input((4,)), L.Dense(32), L.Dense(2)])
    with pytest.raises(ValueError, match=message):
        prune_channels(model, 0.5, data=data)


def test_very_wide_inputs_are_scored_one_by_one(monkeypatch):
    """Moments of 25,088 inputs with each other have no room: they are scored by their own."""
    monkeypatch.setattr(scoring, "WIDEST", 31)
    model = keras.Sequential([keras.Input((4,)), L.Dense(32, name="low"), L.Dense(2, name="head")])
    low, head = model.layers
    low.kernel.assign(np.outer(np.ones(4), np.r_[np.ones(16), 2 * np.ones(16)]))
    head.kernel.assign(np.ones((32, 2)))
    smaller, _ = prune_channels(model, 0.5, data=np.ones((8, 4)))
    np.testing.assert_array_equal(smaller.get_layer("low").kernel, np.full((4, 16), 2.0))
    np.testing.assert_array_equal(smaller.get_layer("head").kernel, np.ones((16, 2)))


def test_where_scope_and_multiples():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(40, name="first"),
            L.Dense(20, name="second"),
            L.Dense(6, name="third"),
            L.Dense(2, name="head"),
        ]
    )
    report = prune_channels(model, 0.3)[1]
    # 28 and 14 of them, to the nearest multiple of 8; 6 are fewer than 8.
    assert [report[name].after for name in ("first", "second", "third")] == [32, 16, 6]
    assert report["third"].reason == "has no more than 8 channels"
    report = prune_channels(model, 0.999, round_to=1)[1]
    assert [report[name].after for name in ("first", "second", "third")] == [1, 1, 1]
    report = prune_channels(model, 0.5, where="second")[1]
    assert [report[name].after for name in ("first", "second", "third")] == [40, 8, 6]
    assert report["first"].reason == "first is not in `where`"
    weak = np.where(np.arange(40) < 30, 0.01, 1.0)
    model.get_layer("first").kernel.assign(np.ones((4, 40)) * weak)
    report = prune_channels(model, 0.4, scope="global", round_to=1)[1]
    assert report["first"].after < 15 and sum(
        report[name].after for name in ("first", "second", "third")
    ) == round(0.6 * 66)


def test_scales_of_batch_normalizations_choose():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.Conv2D(4, 3, name="scaled"),
            L.BatchNormalization(name="norm"),
            L.Conv2D(4, 3, name="plain"),
            L.GlobalAveragePooling2D(),
            L.Dense(2),
        ]
    )
    model.get_layer("norm").gamma.assign([0.1, -3.0, 2.0, -0.2])
    smaller, report = prune_channels(model, 0.5, criterion="gamma", round_to=1)
    assert smaller.get_layer("norm").gamma.numpy().tolist() == [-3.0, 2.0]
    assert report["plain"].after == 4
    assert report["plain"].reason == "plain has no batch normalization with a scale"


def test_what_cannot_be_done_is_refused():
    model = keras.Sequential([keras.Input((4,)), L.Dense(4, name="low"), L.Dense(2, name="head")])
    for share in (0, 1, -0.5):
        with pytest.raises(ValueError, match=r"`channels`.*Received: channels="):
            prune_channels(model, share)
    with pytest.raises(ValueError, match=r"low: has no more than 8 channels.*round_to=8"):
        prune_channels(model, 0.5)
    with pytest.raises(ValueError, match="a few hundred inputs"):
        prune_channels(model, 0.5, criterion="error")
    with pytest.raises(ValueError, match="Closest: 'gamma'"):
        prune_channels(model, 0.5, criterion="gama")
    with pytest.raises(ValueError, match="`scope` must be one of"):
        prune_channels(model, 0.5, scope="layer")
    with pytest.raises(ValueError, match="is an output of the model"):
        prune_channels(keras.Sequential([keras.Input((4,)), L.Dense(32)]), 0.5)
    embedding = keras.Sequential([keras.Input((4,)), L.Embedding(9, 4)])
    with pytest.raises(ValueError, match="convolutions or dense layers"):
        prune_channels(embedding, 0.5)


def test_zeros_shrink_no_file_and_fewer_channels_do(tmp_path):
    inputs = keras.Input((64,))
    outputs = L.Dense(2, name="head")(L.Dense(128, name="low")(inputs))
    model = keras.Model(inputs, outputs)
    paths = {name: str(tmp_path / f"{name}.keras") for name in ("dense", "zeros", "narrow")}
    model.save(paths["dense"])
    prune_channels(model, 0.5)[0].save(paths["narrow"])
    kernel = model.get_layer("low").kernel
    kernel.assign(np.where(np.random.rand(64, 128) < 0.9, 0, kernel.numpy()))
    model.save(paths["zeros"])
    model.export(tmp_path / "zeros.tflite", format="litert", verbose=False)
    paths["file"] = str(tmp_path / "zeros.tflite")
    table = file_sizes(paths)
    dense, zeros, narrow, file = (table[name] for name in paths)
    assert zeros.dense == dense.dense and zeros.gzip < 0.45 * dense.gzip
    nonzero = np.count_nonzero(kernel.numpy())
    saved = 64 * 128 * 4 - (nonzero * 4 + 64 * 128 // 8)
    biases = (128 * 4 - 16) + (2 * 4 - 1)  # both are zero
    assert zeros.dense - zeros.sparse == saved + biases
    assert dense.sparse >= dense.dense - 600 and narrow.dense < 0.7 * dense.dense
    assert file.zeros > 0.85 and file.sparse < 0.4 * file.dense
    assert "zeros.keras" not in str(table) and "100.0%" in str(table)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="paths of files"):
        file_sizes([tmp_path / "none.keras"])
    with pytest.raises(ValueError, match="at least one"):
        file_sizes([])
    for name in ("a.keras", "a.tflite"):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(ValueError, match="is not a"):
            file_sizes([tmp_path / name])
    (tmp_path / "a.bin").write_bytes(bytes(10_000))
    row = file_sizes([tmp_path / "a.bin"])["a.bin"]
    assert (row.dense, row.sparse, row.zeros) == (10_000, None, None) and row.gzip < 100
