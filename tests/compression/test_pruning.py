"""Magnitude pruning of Keras 3 models: TFMOT's masks, exact at every step, kept until `strip`."""

import contextlib
import io

import keras
import keras_hub
import numpy as np
import pytest

from kerastl.callbacks import GradualUnfreezing, Resume
from kerastl.compression import (
    MagnitudePruning,
    constant_sparsity,
    polynomial_decay,
    sparsity,
    strip,
)
from kerastl.compression.island import tf_keras, tfmot
from kerastl.compression.masks import masks_of
from kerastl.training import FineTuner
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION
from tests.two_devices import two_and_one

CROSSENTROPY = "sparse_categorical_crossentropy"


def small():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16, activation="tanh", name="low"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(8, activation="tanh", name="mid"),
            keras.layers.Dense(3, activation="softmax", name="head"),
        ]
    )


def data(n=32):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 6)).astype("float32"), rng.integers(0, 3, n)


def pruned_at_once(layer, shape, **pruning):
    """`layer` built on `shape` and pruned before its first step, which has a rate of zero.

    Returns the kernel before, and what of it was kept.
    """
    model = keras.Sequential([keras.Input(shape[1:]), layer, keras.layers.Flatten()])
    before = layer.kernel.numpy()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.zeros(shape, "float32")
    callback = MagnitudePruning(**pruning, where=layer)
    model.fit(x, np.zeros(model(x).shape), verbose=0, callbacks=[callback])
    after = layer.kernel.numpy()
    np.testing.assert_array_equal(after[after != 0], before[after != 0])
    return before, after != 0


def top_k(weights, target):
    """NumPy: the k largest magnitudes, k = round(n (1 - s)), at least one."""
    count = max(1, round(weights.size * (1 - target)))
    smallest_kept = np.sort(np.abs(weights), axis=None)[-count]
    return np.abs(weights) >= smallest_kept


LAYERS = {
    "dense": (lambda: keras.layers.Dense(7), (2, 9)),
    "conv": (lambda: keras.layers.Conv2D(5, 3), (2, 6, 6, 4)),
    "heads": (lambda: keras.layers.EinsumDense("abc,cde->abde", (None, 4, 3)), (2, 5, 8)),
}


@pytest.mark.parametrize("target", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", LAYERS)
def test_mask_is_the_top_k_of_numpy(kind, target):
    make, shape = LAYERS[kind]
    schedule = constant_sparsity(target, end_step=0)
    before, kept = pruned_at_once(make(), shape, schedule=schedule)
    np.testing.assert_array_equal(kept, top_k(before, target))


def test_blocks_by_hand():
    """Of four 2 × 2 blocks the two with the smaller mean magnitude go, as wholes."""
    matrix = np.array([[5, 5, 1, 1], [5, 5, 1, 9], [2, 2, -3, -3], [2, 2, -3, -3]], "float32")
    layer = keras.layers.Dense(4, kernel_initializer=lambda shape, dtype=None: matrix)
    schedule = constant_sparsity(0.5, end_step=0)
    _, kept = pruned_at_once(layer, (1, 4), schedule=schedule, block_size=(2, 2))
    # Means: 5, 3 (1, 1, 1, 9), 2, 3. A tie at 3 stays, so only one block goes.
    assert kept.astype(int).tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]
    layer = keras.layers.Dense(4, kernel_initializer=lambda shape, dtype=None: matrix)
    schedule = constant_sparsity(0.75, end_step=0)
    _, kept = pruned_at_once(layer, (1, 4), schedule=schedule, block_size=(2, 2))
    assert kept.astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_blocks_of_heads_are_those_of_their_matrix():
    """A query kernel (inputs, heads, size) is a matrix of inputs × (heads · size)."""
    make, shape = LAYERS["heads"]
    schedule = constant_sparsity(0.5, end_step=0)
    before, kept = pruned_at_once(make(), shape, schedule=schedule, block_size=(4, 2))
    means = np.abs(before.reshape(2, 4, 6, 2)).mean((1, 3))
    expected = np.repeat(np.repeat(top_k(means, 0.5), 4, 0), 2, 1).reshape(before.shape)
    np.testing.assert_array_equal(kept, expected)


def test_two_of_four_by_hand():
    """Down the inputs of each output: the two smaller of each four go."""
    column = np.array([4, -3, 2, 1, 0.1, 0.2, 0.4, -0.3], "float32")
    kernel = np.stack([column, column[::-1]], 1)
    layer = keras.layers.Dense(2, kernel_initializer=lambda shape, dtype=None: kernel)
    _, kept = pruned_at_once(layer, (1, 8), schedule=None, m_by_n=(2, 4))
    assert kept[:, 0].astype(int).tolist() == [1, 1, 0, 0, 0, 0, 1, 1]
    assert kept[:, 1].astype(int).tolist() == [1, 1, 0, 0, 0, 0, 1, 1][::-1]


@pytest.mark.parametrize(
    ("make", "shape", "by_inputs"),
    [
        (LAYERS["conv"][0], (1, 6, 6, 8), lambda kept: kept.transpose(0, 1, 3, 2)),
        (LAYERS["heads"][0], (1, 5, 8), lambda kept: kept.transpose(1, 2, 0)),
        (
            lambda: keras.layers.EinsumDense("abcd,cde->abe", (None, 6)),
            (1, 5, 4, 6),
            lambda kept: kept.reshape(24, 6).T,
        ),
        (lambda: keras.layers.Conv1D(5, 3), (1, 9, 8), lambda kept: kept.transpose(0, 2, 1)),
    ],
)
def test_two_of_four_along_the_inputs_of_every_kernel(make, shape, by_inputs):
    before, kept = pruned_at_once(make(), shape, schedule=None, m_by_n=(2, 4))
    groups = by_inputs(kept).reshape(-1, 4)
    assert (groups.sum(1) == 2).all()
    magnitudes = np.abs(by_inputs(before)).reshape(-1, 4)
    assert (
        np.where(groups, magnitudes, np.inf).min(1) > np.where(groups, 0, magnitudes).max(1)
    ).all()


def test_equals_tfmot_on_the_same_network_in_tf_keras():
    """TFMOT 0.8.1's own wrapper and callback, whose count of steps is ours plus one."""
    x, y = data()
    ours, theirs = small(), None
    legacy = tf_keras()
    theirs = legacy.Sequential(
        [
            legacy.layers.Dense(16, activation="tanh", input_shape=(6,)),
            legacy.layers.Dense(8, activation="tanh"),
            legacy.layers.Dense(3, activation="softmax"),
        ]
    )
    kernels = [layer for layer in ours.layers if layer.name != "norm"]
    ours = keras.Sequential([keras.Input((6,)), *kernels])
    theirs.set_weights(ours.get_weights())
    pruning = tfmot().sparsity.keras
    theirs = pruning.prune_low_magnitude(
        theirs, pruning.PolynomialDecay(0.2, 0.7, begin_step=3, end_step=15, frequency=4)
    )
    theirs.compile(legacy.optimizers.SGD(0.3), CROSSENTROPY)
    theirs.fit(
        x, y, batch_size=8, epochs=5, shuffle=False, verbose=0,
        callbacks=[pruning.UpdatePruningStep()],
    )  # fmt: skip
    ours.compile(keras.optimizers.SGD(0.3), CROSSENTROPY)
    schedule = polynomial_decay(0.7, initial=0.2, begin_step=2, end_step=14, frequency=4)
    callback = MagnitudePruning(schedule, where=".*")
    ours.fit(x, y, batch_size=8, epochs=5, shuffle=False, verbose=0, callbacks=[callback])
    assert [step for step, _ in callback.sparsities] == [2, 6, 10, 14]
    stripped = pruning.strip_pruning(theirs).get_weights()
    for mine, other in zip(ours.get_weights(), stripped, strict=True):
        np.testing.assert_array_equal(mine == 0, other == 0)
        np.testing.assert_allclose(mine, other, **REDUCTION)


def test_stock_tfmot_refuses_what_this_prunes():
    model = small()
    with pytest.raises(ValueError, match="`prune_low_magnitude` can only prune"):
        tfmot().sparsity.keras.prune_low_magnitude(model)
    model.compile("adam", CROSSENTROPY)
    model.fit(*data(), batch_size=4, verbose=0, callbacks=[MagnitudePruning(0.5, where=".*")])
    assert sparsity(model).sparsity == pytest.approx(0.5, abs=0.02)


class Watch(keras.callbacks.Callback):
    """Sees, after every call of the step, that what is masked is zero."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        masks = masks_of(self.model)
        self.seen.append(sum(mask.pruned for mask in masks))
        for mask in masks:
            weight = keras.ops.convert_to_numpy(mask.kernel.variable)
            assert not weight[~mask.keep.numpy()].any()


MODES = {
    "plain": {},
    "several steps at once": {"steps_per_execution": 4},
    "xla": {"jit_compile": True},
    "loss scale": {"optimizer": lambda: keras.optimizers.LossScaleOptimizer(adam())},
    "accumulation": {"optimizer": lambda: adam(gradient_accumulation_steps=2)},
    "averages": {"optimizer": lambda: adam(use_ema=True, ema_momentum=0.9)},
    "overwritten": {"optimizer": lambda: adam(use_ema=True, ema_overwrite_frequency=3)},
}


def adam(**settings):
    return keras.optimizers.AdamW(0.01, **settings)


@pytest.mark.parametrize("mode", MODES)
def test_masked_weights_are_zero_after_every_step(mode):
    settings = {"optimizer": adam, **MODES[mode]}
    model = FineTuner.from_model(small())
    model.compile(settings.pop("optimizer")(), CROSSENTROPY, **settings)
    watch = Watch()
    schedule = polynomial_decay(0.8, end_step=12, frequency=2)
    callbacks = [watch, MagnitudePruning(schedule)]  # before it, so it sees what a step leaves
    model.fit(*data(64), batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
    assert watch.seen[0] < watch.seen[-1] == round(0.8 * (6 * 16)) + round(0.8 * (16 * 8))
    for mask in masks_of(strip(model)):
        assert mask is None
    assert sparsity(model)["low"].sparsity == pytest.approx(0.8, abs=0.01)


def test_averages_and_restored_weights_are_pruned_too():
    """Weights that other callbacks put in: moving averages after an epoch, others at the end."""
    model = FineTuner.from_model(small())
    model.compile(adam(use_ema=True, ema_momentum=0.5), CROSSENTROPY)
    dense = model.get_weights()
    restore = keras.callbacks.LambdaCallback(on_train_end=lambda logs: model.set_weights(dense))
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append([mask.holds() for mask in masks_of(self.model)])

    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    pruning = MagnitudePruning(constant_sparsity(0.5, begin_step=4, end_step=4))
    run(model, 1, restore, pruning, swap, Seen())
    assert seen == [[True, True]]
    assert sparsity(strip(model))["mid"].sparsity == 0.5


def test_several_steps_at_once_equal_one_by_one():
    models = []
    for steps in (1, 4):
        model = small()
        model.compile(adam(), CROSSENTROPY, steps_per_execution=steps)
        schedule = polynomial_decay(0.8, begin_step=1, end_step=13, frequency=3)
        model.fit(
            *data(64), batch_size=8, epochs=2, shuffle=False, verbose=0,
            callbacks=[MagnitudePruning(schedule)],
        )  # fmt: skip
        models.append(model)
    for one, several in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, several, **EXACT)


def test_frozen_layers_are_left_alone_until_they_thaw():
    model = FineTuner.from_model(small())
    model.compile(adam(), CROSSENTROPY, multipliers={"low": 0.1, "mid": 0.5})
    before = model.get_layer("low").kernel.numpy()
    zeros = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: zeros.append(
            [sparsity(model)[name].sparsity for name in ("low", "mid", "head")]
        )
    )
    names = list(model.groups.names)
    thaw = GradualUnfreezing({0: names[-1], 1: len(names) - 1, 2: len(names)})
    pruning = MagnitudePruning(constant_sparsity(0.5, begin_step=2, end_step=6), where=".*")
    history = model.fit(
        *data(), batch_size=8, epochs=3, verbose=0, callbacks=[pruning, thaw, note]
    ).history
    assert [row[0] for row in zeros] == [0, 0, 0.5]
    assert zeros[0][2] == pytest.approx(0.5, abs=0.03) and zeros[-1][1] == 0.5
    assert history["sparsity/low"] == [0, 0, 0.5]
    assert [step for step, _ in pruning.sparsities] == [2, 4, 8]  # scheduled, thaw, thaw
    assert np.abs(model.get_layer("low").kernel.numpy() - before).max() < 1


def test_a_layer_whose_multiplier_is_zero_is_left_alone():
    model = FineTuner.from_model(small())
    model.compile(adam(), CROSSENTROPY, multipliers={"low": 0.0})
    before = model.get_layer("low").kernel.numpy()
    with pytest.warns(UserWarning, match="1 of 2 kernels were not pruned.*: low"):
        model.fit(*data(), batch_size=8, verbose=0, callbacks=[MagnitudePruning(0.5)])
    np.testing.assert_array_equal(model.get_layer("low").kernel.numpy(), before)
    assert sparsity(model)["mid"].sparsity == 0.5


def test_a_new_head_that_starts_at_zero_is_not_masked_for_ever():
    inputs = keras.Input((6,))
    outputs = keras.layers.Dense(3, kernel_initializer="zeros", name="head")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    pruning = MagnitudePruning(constant_sparsity(0.5, end_step=4, frequency=4), where="head")
    model.fit(np.random.rand(32, 6), np.random.rand(32, 3), 8, 1, verbose=0, callbacks=[pruning])
    assert [found["head"] for _, found in pruning.sparsities] == [0, 0.5]


def run(model, epochs, *callbacks, first=0):
    model.fit(
        *data(), batch_size=8, epochs=epochs, initial_epoch=first, shuffle=False, verbose=0,
        callbacks=list(callbacks),
    )  # fmt: skip


class Kill(keras.callbacks.Callback):
    """Stops the process, as it were, after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("thaws", "killed_after"), [(True, 10), (False, 7)])
def test_a_run_that_is_killed_ends_as_one_that_was_not(thaws, killed_after, tmp_path):
    def train(folder, *others):
        model = FineTuner.from_model(small())
        model.compile(adam(), CROSSENTROPY)
        target = 0.75 if thaws else polynomial_decay(0.75, end_step=12, frequency=4)
        thaw, pruning = [GradualUnfreezing()] * thaws, MagnitudePruning(target)
        run(model, 4, *thaw, pruning, Resume(folder, every=2), *others)
        return model, pruning

    whole, whole_pruning = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", Kill(killed_after))
    killed, pruning = train(tmp_path / "killed")
    assert pruning.sparsities == whole_pruning.sparsities
    assert sparsity(killed)["low"].sparsity == 0.75
    for a, b in zip(whole.get_weights(), killed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **EXACT)


def test_a_state_of_other_settings_is_refused():
    models = [FineTuner.from_model(small()) for _ in range(3)]
    states = []
    for model, target in zip(models, (0.75, 0.75, 0.5), strict=True):
        model.compile(adam(), CROSSENTROPY)
        pruning = MagnitudePruning(polynomial_decay(target, end_step=4, frequency=2))
        if states:
            pruning.set_state(states[0])  # before `fit`: taken up when it begins
        with (
            contextlib.nullcontext()
            if target == 0.75
            else pytest.raises(ValueError, match="these very settings")
        ):
            run(model, 1, pruning)
        states.append(pruning.get_state())


def test_zeros_outlast_a_later_training_and_a_file(tmp_path):
    model = FineTuner.from_model(small())
    model.compile(adam(), CROSSENTROPY)
    run(model, 2, MagnitudePruning(0.5))
    zeros = model.get_layer("mid").kernel.numpy() == 0
    run(model, 2)  # no callback: the masks hold
    again = MagnitudePruning(0.75)
    run(model, 2, again)
    assert again.sparsities[0][1]["mid"] == 0.5  # grows from what was there
    assert (model.get_layer("mid").kernel.numpy()[zeros] == 0).mean() > 0.9
    model.save(tmp_path / "pruned.keras")
    loaded = keras.models.load_model(tmp_path / "pruned.keras")
    assert str(sparsity(loaded)) == str(sparsity(model))
    assert sparsity(loaded)["mid"].sparsity == 0.75
    outputs = [each.predict(data()[0], verbose=0) for each in (loaded, model)]
    np.testing.assert_allclose(*outputs, **ELEMENTWISE)
    assert strip(loaded) is loaded


def test_strip_gives_back_plain_weights_and_sees_that_masks_held():
    model = small()
    norm = keras.constraints.MaxNorm(0.5)
    model.get_layer("mid").kernel.constraint = norm
    model.compile(adam(), CROSSENTROPY)
    run(model, 2, MagnitudePruning(0.5))
    kernel = model.get_layer("mid").kernel
    assert np.linalg.norm(kernel.numpy(), axis=0).max() < 0.5 + 1e-5  # both constraints hold
    pruned = kernel.numpy()
    kernel.assign(pruned + 1)
    with pytest.raises(RuntimeError, match="weights other than zero in mid"):
        strip(model)
    kernel.assign(pruned)
    strip(model)
    assert kernel.constraint is norm and model.get_layer("low").kernel.constraint is None
    run(model, 1)
    assert sparsity(model).sparsity < 0.05


def test_prunes_a_bert_at_any_depth():
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=50, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16,
        max_sequence_length=8,
    )  # fmt: skip
    model = keras_hub.models.BertTextClassifier(backbone, num_classes=2, preprocessor=None)
    tuner = FineTuner.from_model(model)
    tuner.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tokens = np.random.default_rng(0).integers(1, 50, (8, 8))
    x = {
        "token_ids": tokens,
        "padding_mask": np.ones_like(tokens),
        "segment_ids": np.zeros_like(tokens),
    }
    pruning = MagnitudePruning(0.5)
    tuner.fit(x, np.arange(8) % 2, batch_size=2, verbose=0, callbacks=[pruning])
    table = sparsity(tuner)
    attention = "transformer_layer_0/self_attention_layer/"
    for part in ("query", "key", "value", "attention_output"):
        assert table[attention + part].sparsity == 0.5
    assert table["token_embedding"].sparsity == 0.5
    assert [path for path in pruning.skipped if "position" in path]
    assert "logits" in " ".join(pruning.skipped)


def test_what_is_left_dense_is_said():
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(inputs)
    x = keras.layers.SeparableConv2D(8, 3, name="separable")(x)
    x = keras.layers.Conv2D(8, 3, name="conv")(x)
    x = keras.layers.Conv2D(8, 1, name="point")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
    model.compile("sgd", "mse")
    pruning = MagnitudePruning(constant_sparsity(0.5, end_step=0), block_size=(2, 2), verbose=1)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        model.fit(np.ones((1, 8, 8, 4)), np.ones((1, 2)), verbose=0, callbacks=[pruning])
    assert list(pruning.sparsities[-1][1]) == ["separable", "point"]
    assert sorted(pruning.skipped) == ["conv", "depthwise", "head"]
    assert "conv is no matrix" in said.getvalue() and "Pruned: sparsity 0.5" in said.getvalue()
    both = MagnitudePruning(constant_sparsity(0.5, end_step=99), ".*", depthwise=True)
    model.fit(np.ones((1, 8, 8, 4)), np.ones((1, 2)), verbose=0, callbacks=[both])
    assert both.skipped == {} and "separable/depthwise_kernel" in both.sparsities[-1][1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MagnitudePruning(1.0), r"sparsity in \[0, 1\).*schedule=1.0"),
        (lambda: MagnitudePruning(-0.1), r"schedule=-0.1"),
        (lambda: MagnitudePruning(float("nan")), "schedule=nan"),
        (lambda: polynomial_decay(1.5, end_step=9), "target=1.5"),
        (lambda: constant_sparsity(0.5, begin_step=5, end_step=4), "end_step"),
        (lambda: constant_sparsity(0.5, begin_step=-1), "begin_step"),
        (lambda: polynomial_decay(0.5, begin_step=5, end_step=5), "divide"),
        (lambda: polynomial_decay(0.5, end_step=150, frequency=100), "divide"),
        (lambda: MagnitudePruning(0.5, block_size=(0, 2)), "block_size"),
        (lambda: MagnitudePruning(0.5, block_size=4), "pair of ints"),
        (lambda: MagnitudePruning(None, m_by_n=(4, 2)), "m < n"),
        (lambda: MagnitudePruning(0.6, m_by_n=(2, 4)), r"constant_sparsity\(0.5\)"),
        (lambda: MagnitudePruning(0.5, m_by_n=(2, 4), block_size=(2, 2)), "not both"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_schedules_are_refused_before_the_first_step():
    model = small()
    model.compile("sgd", CROSSENTROPY)
    before = model.get_weights()
    with pytest.raises(TypeError, match=r"constant_sparsity\(...\)"):
        MagnitudePruning("half")
    with pytest.raises(ValueError, match="begin before training ends"):
        run(model, 1, MagnitudePruning(constant_sparsity(0.5, begin_step=5)))
    with pytest.raises(ValueError, match="a layer that can be pruned"):
        run(model, 1, MagnitudePruning(0.5, where="norm"))
    with pytest.raises(ValueError, match="of unknown size"):
        batches = (batch for batch in [data()])
        model.fit(batches, shuffle=False, verbose=0, callbacks=[MagnitudePruning(0.5)])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    run(model, 1)
    with pytest.raises(ValueError, match=r"must not end before training starts.*4 steps"):
        run(model, 1, MagnitudePruning(constant_sparsity(0.5, end_step=3)))


@pytest.mark.slow
def test_two_devices_equal_one(tmp_path):
    """MirroredStrategy over two logical CPUs: each replica finds the same masks."""
    program = """
        import keras
        from kerastl import FineTuner
        from kerastl.callbacks import GradualUnfreezing
        from kerastl.compression import MagnitudePruning
        from kerastl.compression import polynomial_decay

        def train():
            keras.utils.set_random_seed(0)
            inputs = keras.Input((6,))
            x = keras.layers.Dense(8, activation="tanh", name="low")(inputs)
            model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))
            model.compile(keras.optimizers.SGD(0.1, momentum=0.9),
                          "sparse_categorical_crossentropy", multipliers={"low": 0.1})
            rng = np.random.default_rng(0)
            schedule = polynomial_decay(0.75, begin_step=1, end_step=9, frequency=2)
            model.fit(rng.normal(size=(32, 6)), rng.integers(0, 3, 32), batch_size=8, epochs=3,
                      shuffle=False, verbose=0,
                      callbacks=[GradualUnfreezing(), MagnitudePruning(schedule, ".*")])
            if tf.distribute.has_strategy():
                copies = [[part.numpy() for part in v.value.values]
                          for v in model.trainable_variables]
                assert len(copies[0]) == 2 and all(np.array_equal(*parts) for parts in copies)
            return model.get_weights()
        """
    two, one = two_and_one(program, tmp_path)
    assert (two[0] == 0).mean() == 0.75
    for a, b in zip(two, one, strict=True):
        np.testing.assert_array_equal(a == 0, b == 0)
        np.testing.assert_allclose(a, b, **REDUCTION)
