"""Adapters beside everything else that a `FineTuner` trains with."""

import dataclasses

import keras
import numpy as np
import pytest

import kerastl
from kerastl import FineTuner, callbacks, peft
from kerastl.continual import L2SP
from kerastl.distillation import Distill
from kerastl.plans import Phase, TransferPlan
from kerastl.training.checkpoints import CheckpointError
from tests.callbacks.resume_cases import Kill, Killed
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION

OPTIONS = {"batch_size": 4, "verbose": 0, "shuffle": False}


def network(seed=1):
    """Three blocks and a head, with dropout between."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="tanh", name="block_1_dense")(inputs)
    x = keras.layers.Dense(8, activation="tanh", name="block_2_dense")(x)
    x = keras.layers.Dropout(0.3, name="block_2_drop")(x)
    x = keras.layers.Dense(8, activation="tanh", name="block_3_dense")(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))


def adapted(dropout=0.2, seed=1, where=".*_dense"):
    base = network(seed)
    model = FineTuner.from_model(base)
    peft.add(model, peft.LoRA(rank=2, dropout=dropout), where)
    return base, model


def rows(count=24, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 6)).astype("float32"), rng.integers(0, 3, count)


def compiled(model, optimizer=None, **kwargs):
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer or keras.optimizers.Adam(0.02), loss, **kwargs)
    return model


def fit(model, *more, epochs=2, **kwargs):
    history = model.fit(*rows(), callbacks=list(more), epochs=epochs, **{**OPTIONS, **kwargs})
    return history.history


def values(model):
    return [v.numpy() for v in model.variables]


def adapter_of(model, layer):
    members = model.adapter_bank.named["default"].members
    return next(one for one in members if one.beside.layer.name == layer)


def base_values(base):
    return [w.numpy() for layer in base.layers if layer.name != "head" for w in layer.weights]


def check_base(base, before):
    now = base_values(base)
    assert all(np.array_equal(a, b) for a, b in zip(before, now, strict=True))


def check_equal(one, other):
    for a, b in zip(values(one), values(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layer_decay_and_discriminative_rates_reach_adapters():
    """A step of SGD is rate * multiplier * gradient: by hand from a step of the rate alone."""
    for rates in (
        kerastl.layer_decay,
        lambda groups: kerastl.discriminative_rates(groups, slice(0.01, 1.0)),
    ):
        steps = []
        for multiplied in (False, True):
            _, model = adapted(dropout=0.0)
            multipliers = rates(model.groups)
            compiled(model, keras.optimizers.SGD(0.1),
                     multipliers=multipliers if multiplied else None)  # fmt: skip
            before = {name: adapter_of(model, name).b.numpy() for name in
                      ("block_1_dense", "block_2_dense", "block_3_dense")}  # fmt: skip
            model.train_on_batch(*rows(4))
            steps.append({k: adapter_of(model, k).b.numpy() - v for k, v in before.items()})
        for name, step in steps[0].items():
            group = name.removesuffix("_dense")
            np.testing.assert_allclose(
                steps[1][name], multipliers[group] * step, rtol=1e-5, atol=1e-8
            )
            assert np.any(step)


def test_lora_plus_beside_layer_decay():
    _, model = adapted()
    compiled(model, multipliers={**kerastl.layer_decay(model.groups), ".*/lora_b": 16.0})
    model.make_train_function()
    found = {path: rate for path, rate in model.multipliers.items() if "block_1" in path}
    assert {round(rate, 4) for rate in found.values()} <= {0.4219, 16.0, round(16 * 0.75**3, 4)}
    ratio = [found[a.replace("lora_a", "lora_b")] / found[a] for a in found if "lora_a" in a]
    assert ratio and min(ratio) > 1


def moved_groups(before, model):
    """The groups of which a weight moved."""
    return {
        name
        for name in model.groups
        for v in model.groups.variables(name)
        if v.path in before and not np.array_equal(before[v.path], v.numpy())
    }


class Moves(keras.callbacks.Callback):
    """Which groups move in each epoch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_epoch_begin(self, epoch, logs=None):
        self._before = {v.path: v.numpy() for v in self.model.weights}

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(sorted(moved_groups(self._before, self.model)))


WANTED = [["head"], ["block_3", "head"], ["block_2", "block_3", "head"]]


def test_gradual_unfreezing_thaws_adapters_and_never_the_base():
    base, model = adapted()
    before, moves = base_values(base), Moves()
    compiled(model)
    fit(model, callbacks.GradualUnfreezing({0: 1, 1: 2, 2: 3}), moves, epochs=3)
    assert moves.found == WANTED
    check_base(base, before)


def test_a_plan_thaws_adapters_and_never_the_base():
    base, model = adapted()
    before, moves = base_values(base), Moves()
    compiled(model)
    plan = TransferPlan([Phase(1, "head"), Phase(1, 2), Phase(1, 3)])
    audit = callbacks.Audit(steps=3)
    fit(model, callbacks.FollowPlan(plan), moves, audit, epochs=3)
    assert moves.found == WANTED and audit.phases_checked == 3
    check_base(base, before)


def test_cached_features_move_up_as_adapters_thaw_and_give_what_uncached_ones_give():
    """The first phase reads the features below the head, the next those below block 2."""
    found = []
    for cache in (True, False):
        _, model = adapted(dropout=0.0)
        compiled(model)
        plan = TransferPlan([Phase(2, "head"), Phase(2, 2)])
        history = fit(model, callbacks.FollowPlan(plan), epochs=4, cache_frozen=cache)
        found.append((history["loss"], model.adapter_bank.get_weights()))
    np.testing.assert_allclose(found[0][0], found[1][0], **REDUCTION)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_l2_sp_draws_adapters_to_where_they_began():
    """d/dw of strength / 2 * ||w - w0||² adds strength * (w - w0) to the gradient, by hand."""
    steps = []
    for strength in (0.0, 0.5):
        base, model = adapted(dropout=0.0)
        before = base_values(base)
        rate = keras.optimizers.SGD(0.1)
        compiled(model, rate, terms=[L2SP(strength, 0.0, proximal=False)])
        inputs, targets = rows(4)
        points = []
        for _ in range(2):
            model.fit(inputs, targets, epochs=1, **OPTIONS)
            points.append([v.numpy() for v in model.adapter_bank.weights if v.trainable])
        steps.append(points)
        check_base(base, before)
    _, fresh = adapted(dropout=0.0)
    anchors = [v.numpy() for v in fresh.adapter_bank.weights if v.trainable]
    for w0, plain, drawn in zip(
        anchors, zip(*steps[0], strict=True), zip(*steps[1], strict=True), strict=True
    ):
        np.testing.assert_allclose(drawn[0], plain[0], **ELEMENTWISE)  # at the anchor: no pull
        by_hand = plain[1] - 0.1 * 0.5 * (plain[0] - w0)
        np.testing.assert_allclose(drawn[1], by_hand, rtol=1e-5, atol=1e-6)


def test_distillation_from_a_teacher():
    base, model = adapted()
    before, teacher = base_values(base), network(seed=7)
    compiled(
        model, keras.optimizers.Adam(0.05), terms=[Distill(teacher, share=1.0, temperature=2.0)]
    )
    losses = fit(model, epochs=20)["distill"]
    assert losses[-1] < 0.8 * losses[0]
    check_base(base, before)


OPTIMIZERS = {
    "averaged and accumulating": lambda: keras.optimizers.Adam(
        0.02, use_ema=True, ema_momentum=0.5, gradient_accumulation_steps=2
    ),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.AdamW(0.02), dynamic_growth_steps=3
    ),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_interrupted_training_goes_on_bit_for_bit(kind, tmp_path):
    """With dropout on, gradient norms, a thaw amid, and what the optimizer averages."""

    def run(folder, *more):
        _, model = adapted()
        compiled(model, OPTIMIZERS[kind](), norms=True)
        resume = callbacks.Resume(folder, every=2)
        plan = TransferPlan([Phase(1, "head"), Phase(2, 3)])
        history = fit(model, callbacks.FollowPlan(plan), resume, *more, epochs=3)
        return model, history

    whole, history = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "cut", Kill(1, 3))
    again, later = run(tmp_path / "cut")
    check_equal(whole, again)
    assert history == later
    pairs = zip(whole.optimizer.variables, again.optimizer.variables, strict=True)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)
    assert "update_norm/block_3" in history


def test_a_resumed_training_with_another_rank_is_refused(tmp_path):
    _, model = adapted()
    compiled(model)
    fit(model, callbacks.Resume(tmp_path / "x"), epochs=1)
    other = FineTuner.from_model(network())
    peft.add(other, peft.LoRA(rank=3), ".*_dense")
    with pytest.raises(CheckpointError):
        fit(compiled(other), callbacks.Resume(tmp_path / "x"), epochs=2)


def test_a_resumed_training_with_other_settings_is_refused(tmp_path):
    """Of weights of the same shapes."""
    _, model = adapted()
    compiled(model)
    fit(model, callbacks.Resume(tmp_path / "x"), epochs=1)
    other = FineTuner.from_model(network())
    peft.add(other, dataclasses.replace(model.adapter_bank.named["default"].method, alpha=80.0))
    with pytest.raises(CheckpointError, match=r"adapters/methods/default/alpha"):
        fit(compiled(other), callbacks.Resume(tmp_path / "x"), epochs=2)


def test_norms_of_groups_are_those_of_their_adapters():
    _, model = adapted(dropout=0.0)
    compiled(model, keras.optimizers.SGD(0.1), norms=True)
    before = {
        name: adapter_of(model, f"{name}_dense").get_weights() for name in ("block_1", "block_2")
    }
    history = fit(model, epochs=1, batch_size=24)
    for name, old in before.items():
        now = adapter_of(model, f"{name}_dense").get_weights()
        moved = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(old, now, strict=True)))
        np.testing.assert_allclose(history[f"update_norm/{name}"], moved, rtol=1e-4)
        np.testing.assert_allclose(history[f"gradient_norm/{name}"], moved / 0.1, rtol=1e-4)


def test_audit_finds_a_base_that_moves():
    base, model = adapted()
    compiled(model)

    class Sneak(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            base.get_layer("block_1_dense").kernel.assign_add(np.ones((6, 8)))

    with pytest.raises(callbacks.AuditError, match=r"moved though frozen: .*block_1_dense/kernel"):
        fit(model, Sneak(), callbacks.Audit())


def test_the_learning_rate_finder_puts_adapters_back():
    _, model = adapted()
    compiled(model)
    before = values(model)
    result = kerastl.lr_find(model, *rows(48), batch_size=4, num_steps=12)
    assert len(result.rates) >= 10
    assert all(np.array_equal(a, b) for a, b in zip(before, values(model), strict=True))


def test_the_summary_of_what_trains_is_a_count_by_hand():
    """Rank 2: (6 + 8) * 2 beside the first block, (8 + 8) * 2 beside the others, the head whole."""
    _, model = adapted(where="block_._dense")
    compiled(model, multipliers=kerastl.layer_decay(model.groups))
    summary = kerastl.trainable_summary(model)
    found = {row.group: (row.weights, row.trainable) for row in summary.rows}
    assert found == {
        "block_1": (6 * 8 + 8 + 28, 28),
        "block_2": (8 * 8 + 8 + 32, 32),
        "block_3": (8 * 8 + 8 + 32, 32),
        "head": (8 * 3 + 3, 27),
    }
    assert "28" in str(summary)


def test_a_saved_adapted_model_is_inspected(tmp_path):
    _, model = adapted(where="block_._dense")
    compiled(model)
    model.save(tmp_path / "model.keras")
    found = kerastl.inspect_model(tmp_path / "model.keras")
    assert [(row["group"], row["weights"], row["trainable"]) for row in found["groups"]] == [
        ("block_1", 84, 28), ("block_2", 104, 32), ("block_3", 104, 32), ("head", 27, 27),
    ]  # fmt: skip


def test_no_decay_leaves_factors_to_decay_and_biases_alone():
    base = network()
    model = FineTuner.from_model(base)
    peft.add(model, peft.BitFit(), "block_2_dense", name="biases")
    peft.add(model, peft.LoRA(rank=2), "block_[23]_dense", name="factors")
    peft.activate(model, ["biases", "factors"])
    compiled(model, keras.optimizers.AdamW(0.02, weight_decay=0.1), no_decay=True)
    fit(model, epochs=1)
    spared = kerastl.no_decay(model)
    bias = model.adapter_bank.named["biases"].members[0].bias
    factors = [v.path for v in model.adapter_bank.named["factors"].weights]
    assert bias.path in spared and not set(factors) & set(spared)


def test_a_clone_is_the_base_and_one_from_the_config_has_adapters_of_its_own():
    base, model = adapted()
    before = base_values(base)
    for weight in model.adapter_bank.weights:
        if weight.trainable:
            weight.assign(weight + 0.1)
    bare = keras.models.clone_model(model)  # of the graph, which adapters stand beside
    assert bare.adapter_bank is None and peft.active(bare) == ()
    bare.set_weights([w.numpy() for layer in model.layers for w in layer.weights])
    with peft.disabled(model):
        np.testing.assert_allclose(bare(rows()[0]), model(rows()[0]), **EXACT)
    clone = FineTuner.from_config(model.get_config())
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(clone(rows()[0]), model(rows()[0]), **EXACT)
    mine = values(model)
    fit(compiled(clone))
    check_base(base, before)
    assert all(np.array_equal(a, b) for a, b in zip(mine, values(model), strict=True))


def test_xla_composes_with_a_plan_and_multipliers():
    losses = []
    for jit in (True, False):
        base, model = adapted(dropout=0.0)
        before = base_values(base)
        compiled(model, jit_compile=jit, multipliers=kerastl.layer_decay(model.groups))
        losses.append(fit(model)["loss"])
        check_base(base, before)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
