"""The one table through which every parameter-efficient method goes."""

import keras
import numpy as np
import pytest

from kerastl import peft
from kerastl.graph.flags import count_trainable
from tests.peft.peft_cases import (
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
def test_only_the_adapter_and_the_head_train(name):
    base, model = adapted(name)
    before = values(base)
    own = {id(v) for v in [*model.adapter_bank.weights, *model.get_layer("head").weights]}
    assert {id(v) for v in model.trainable_variables} <= own
    mine = [v for v in model.adapter_bank.weights if v.trainable]
    old = [v.numpy() for v in mine]
    trained(model, epochs=2)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(base), strict=True))
    assert all(not np.array_equal(a, v.numpy()) for a, v in zip(old, mine, strict=True))
    count = sum(int(np.prod(v.shape)) for v in mine)
    count += sum(int(np.prod(v.shape)) for v in model.get_layer("head").weights)
    assert count_trainable(model) == count


@every_method
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
def test_a_saved_model_trains_on_as_the_one_that_was_saved(name, tmp_path):
    _, model = adapted(name)
    trained(model, epochs=1)
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
def test_float32_beside_a_half_base(name):
    _, model = adapted(name, dtype="mixed_bfloat16")
    assert {v.dtype for v in model.adapter_bank.weights if v.trainable} == {"float32"}
    assert np.isfinite(trained(model, epochs=1)).all()


@every_method
def test_a_second_adapter_leaves_the_first(name):
    _, model = adapted(name, adapter="first")
    moved(model)
    first, kept = outputs(model), values(model.adapter_bank.named["first"])
    at_head = values(model.get_layer("head"))
    method, _, where = METHODS[name]
    chosen = [one.beside.layer for one in model.adapter_bank.named["first"].members]
    peft.add(model, method, where if isinstance(where, str) and where != "all_blocks" else chosen,
             name="second")  # fmt: skip
    assert peft.active(model) == ("second",)
    trained(model, epochs=1)
    now = values(model.adapter_bank.named["first"])
    assert all(np.array_equal(a, b) for a, b in zip(kept, now, strict=True))
    peft.activate(model, "first")
    peft.delete(model, "second")
    assert list(model.adapter_bank.named) == ["first"]
    head = model.get_layer("head")
    for new, old in zip(head.weights, at_head, strict=True):
        new.assign(old)
    assert np.array_equal(first, outputs(model))
