"""The one table through which every parameter-efficient method goes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import peft
from kerastl.graph.flags import count_trainable
from tests.peft.peft_cases import (
    FIRST,
    HAS_NO_MERGE,
    METHODS,
    STARTS_ELSEWHERE,
    adapted,
    moved,
    outputs,
    rows,
    trained,
    tuner,
    values,
)
from tests.tolerances import REDUCTION

every_method = pytest.mark.parametrize("name", METHODS)
every_mergeable = pytest.mark.parametrize("name", [n for n in METHODS if n not in HAS_NO_MERGE])


@pytest.mark.parametrize("name", [n for n in METHODS if n not in STARTS_ELSEWHERE])
def test_a_fresh_adapter_changes_nothing(name):
    keras.utils.set_random_seed(1)
    plain = outputs(tuner(METHODS[name][1])[1])
    keras.utils.set_random_seed(1)
    assert np.array_equal(plain, outputs(adapted(name)[1]))


@every_method
@pytest.mark.slow_but("lora", "shira", "ia3", "houlsby", "prefix")
def test_it_trains_alone_and_a_loaded_model_trains_on(name, tmp_path):
    base, model = adapted(name)
    before = values(base)
    mine = [v for v in model.adapter_bank.weights if v.trainable]
    allowed = [*mine, *model.get_layer("head").weights]
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in allowed}
    assert count_trainable(model) == sum(int(np.prod(v.shape)) for v in allowed)
    old = [v.numpy() for v in mine]
    trained(model, epochs=2)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(base), strict=True))
    assert all(not np.array_equal(a, v.numpy()) for a, v in zip(old, mine, strict=True))

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(outputs(model), outputs(loaded))
    assert peft.active(loaded) == ("default",)
    inputs, targets = rows(model)
    options = {"batch_size": 4, "epochs": 1, "verbose": 0}
    more = [one.fit(inputs, targets, **options).history for one in (model, loaded)]
    assert more[0] == more[1]
    pairs = zip(model.variables, loaded.variables, strict=True)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)


@every_method
@pytest.mark.slow_but(*FIRST)
def test_disabled_is_the_base(name):
    _, plain = tuner(METHODS[name][1])
    _, model = adapted(name)
    moved(model)
    head = values(model.get_layer("head"))
    for new, old in zip(plain.get_layer("head").weights, head, strict=True):
        new.assign(old)
    with_adapter = outputs(model)
    with peft.disabled(model):
        assert np.array_equal(outputs(plain), outputs(model))
    assert np.array_equal(with_adapter, outputs(model))
    assert not np.allclose(with_adapter, outputs(plain), atol=1e-4)


@every_mergeable
def test_merged_is_unmerged_and_is_restored_bit_for_bit(name):
    base, model = adapted(name)
    moved(model)
    before, apart = values(base), outputs(model)
    peft.merge(model)
    np.testing.assert_allclose(outputs(model), apart, **REDUCTION)
    peft.restore(model)
    assert np.array_equal(outputs(model), apart)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(base), strict=True))
    peft.unload(model, merge=True)
    np.testing.assert_allclose(outputs(model), apart, **REDUCTION)
    assert model.adapter_bank is None


@every_method
@pytest.mark.slow_but(*FIRST)
def test_unloaded_is_the_base_and_trains_as_it_did(name):
    _, plain = tuner(METHODS[name][1])
    _, model = adapted(name)
    head = values(model.get_layer("head"))
    for new, old in zip(plain.get_layer("head").weights, head, strict=True):
        new.assign(old)
    peft.unload(moved(model))
    assert np.array_equal(outputs(plain), outputs(model))
    assert count_trainable(model) == count_trainable(plain)


@every_method
@pytest.mark.slow_but(*FIRST)
def test_float32_beside_a_half_base(name):
    _, model = adapted(name, dtype="mixed_bfloat16")
    mine = [v for v in model.adapter_bank.weights if v.trainable]
    assert {v.dtype for v in mine} == {"float32"}
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(model(rows(model)[0], training=True) ** 2)
    slopes = [tf.convert_to_tensor(g) for g in tape.gradient(loss, [v.value for v in mine])]
    assert {slope.dtype for slope in slopes} == {tf.float32}
    assert all(np.isfinite(slope).all() for slope in slopes)


@every_method
@pytest.mark.slow_but(*FIRST)
def test_a_second_adapter_leaves_the_first(name):
    _, model = adapted(name, adapter="first")
    moved(model)
    first, kept = outputs(model), values(model.adapter_bank.named["first"])
    method, _, where = METHODS[name]
    chosen = [one.beside.layer for one in model.adapter_bank.named["first"].members]
    peft.add(model, method, where if isinstance(where, str) and where != "all_blocks" else chosen,
             name="second")  # fmt: skip
    assert peft.active(model) == ("second",)
    second = {id(v) for v in model.adapter_bank.named["second"].weights}
    assert {id(v) for v in model.adapter_bank.weights if v.trainable} <= second
    now = values(model.adapter_bank.named["first"])
    assert all(np.array_equal(a, b) for a, b in zip(kept, now, strict=True))
    peft.activate(model, "first")
    peft.delete(model, "second")
    assert list(model.adapter_bank.named) == ["first"]
    assert np.array_equal(first, outputs(model))
