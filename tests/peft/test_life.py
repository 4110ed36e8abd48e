"""What adapters refuse in the course of their life, so that no state is lost in silence."""

import keras
import numpy as np
import pytest

from kerastl import FineTuner, peft
from tests.peft.peft_cases import adapted, compiled, moved, outputs, rows


def _two_over_one_base():
    """Two models with heads of their own over the same layers."""
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(4, activation="relu", name="block_1_dense")(inputs)
    heads = [keras.layers.Dense(2, name="head")(hidden) for _ in range(2)]
    return [FineTuner.from_model(keras.Model(inputs, head)) for head in heads]


def test_adapters_of_two_models_never_act_on_one_layer():
    one, other = _two_over_one_base()
    peft.add(one, peft.LoRA(rank=1))
    peft.activate(one, [])
    peft.add(other, peft.LoRA(rank=1))
    with pytest.raises(ValueError, match=r"adapter of another model"):
        peft.activate(one, "default")
    peft.activate(other, [])
    peft.activate(one, "default")
    peft.merge(moved(one))
    with pytest.raises(ValueError, match=r"adapter of another model"):
        peft.activate(other, "default")
    with pytest.raises(ValueError, match=r"adapter of another model"):
        peft.add(other, peft.LoRA(rank=1), name="more")
    assert list(other.adapter_bank.named) == ["default"]
    peft.restore(one)
    peft.unload(one)
    peft.activate(other, "default")


def test_a_merged_model_neither_trains_nor_writes_or_reads_weights(tmp_path):
    _, model = adapted("lora-conv")
    path = tmp_path / "x.weights.h5"
    compiled(model)
    model.save_weights(path)
    peft.merge(moved(model))
    inputs, targets = rows(model)
    for refused in (
        lambda: model.save_weights(tmp_path / "y.weights.h5"),
        lambda: model.load_weights(path),
        lambda: model.fit(inputs, targets, verbose=0),
        lambda: model.train_on_batch(inputs, targets),
    ):
        with pytest.raises(ValueError, match=r"peft\.restore"):
            refused()
    peft.restore(model)
    model.load_weights(path)
    model.fit(inputs, targets, verbose=0)
    peft.unload(model, merge=True)  # behind a fit, whose function is made anew
    compiled(model).fit(inputs, targets, verbose=0)


def test_adapters_are_not_changed_while_they_are_disabled():
    _, model = adapted("lora")
    peft.add(model, peft.LoRA(rank=1), name="more")
    peft.activate(model, "default")
    before = outputs(moved(model))
    with peft.disabled(model):
        for refused in (
            lambda: peft.unload(model),
            lambda: peft.activate(model, "more"),
            lambda: peft.add(model, peft.LoRA(rank=1), name="new"),
            lambda: peft.delete(model, "more"),
        ):
            with pytest.raises(RuntimeError, match=r"disabled just now"):
                refused()
        with peft.disabled(model):
            pass
        assert not np.array_equal(before, outputs(model))
    assert np.array_equal(before, outputs(model)) and list(model.adapter_bank.named) == [
        "default",
        "more",
    ]
    peft.unload(model)
    assert model.adapter_bank is None
