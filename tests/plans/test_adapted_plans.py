"""Plans that train adapters: as data, as tables, by name, and carried through a `fit`."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from kerastl import FineTuner, callbacks, peft
from kerastl.plans import AdapterPlan, TransferPlan, strategies

GROUPS = ["stem", "block_1", "head"]
NEEDED = AdapterPlan(
    "LoRA", {"rank": 4, "ranks": {"a/.*": 2}, "tokens": [3, 7]}, where=["a", "b"], also_train=()
)


@pytest.mark.parametrize("start", ["as_is", "probe", "trained"])
@pytest.mark.parametrize("strategy", [strategies.lora, strategies.adapters])
def test_a_plan_comes_back_equal(strategy, start, tmp_path):
    plan = strategy(GROUPS, epochs=4, learning_rate=0.1, where="block_.*", start=start)
    for one in (plan, dataclasses.replace(plan, adapters=NEEDED)):
        assert TransferPlan.from_json(one.to_json()) == one
        assert len({one, TransferPlan.from_json(one.to_json())}) == 1
        one.save(tmp_path / "plan.json")
        assert TransferPlan.load(tmp_path / "plan.json") == one
    assert plan != dataclasses.replace(plan, adapters=NEEDED)
    assert plan.adapters.also_train == (() if start == "trained" else None)


def test_plan_files_of_before_adapters_still_load():
    """A plan without them is written as it was before, so that it is read both ways."""
    plan = strategies.full(GROUPS, epochs=4)
    said = json.loads(plan.to_json())
    assert set(said) == {
        "version", "name", "reason", "schedule", "start", "wise_ft", "temperature", "end",
        "tried", "phases",
    }  # fmt: skip
    assert TransferPlan.from_json(json.dumps(said)).adapters is None


def test_the_table_says_what_trains_in_place_of_layers():
    plan = strategies.lora(GROUPS, epochs=4, learning_rate=1.0, rank=2, where="block_1")
    text = str(plan.resolve(GROUPS))
    assert "adapters train alone: LoRA(rank=2, alpha=8.0) where 'block_1'\n" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["epochs", "1", "3"] in rows  # a head that begins at zero has a quarter
    assert ["block_1", "·", "0.333"] in rows and ["head", "1", "1"] in rows
    probed = strategies.lora(GROUPS, epochs=4, learning_rate=0.3, start="probe")
    (rates,) = [phase.rates for phase in probed.resolve(GROUPS).phases]
    assert rates == pytest.approx({"stem": 0.1, "block_1": 0.1, "head": 0.01})


def test_its_line_is_the_call_that_adds_them():
    where = "kerastl.peft.add(model, kerastl.peft.LoRA(rank=4), where=['a', 'b'], also_train=())"
    assert dataclasses.replace(NEEDED, settings={"rank": 4}).line == where
    assert AdapterPlan("LoRA", {"rank": 4}).fits(peft.LoRA(rank=4, alpha=2.0))
    assert not AdapterPlan("LoRA", {"rank": 4}).fits(peft.LoRA(rank=2))
    assert not AdapterPlan("LoRA").fits(peft.BitFit())
    assert NEEDED.fits(peft.LoRA(rank=4, ranks={"a/.*": 2}, tokens=(3, 7)))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: AdapterPlan(peft.LoRA()), TypeError, "the name of a method"),
        (lambda: AdapterPlan("LoRA", [4]), TypeError, "a dict of the arguments"),
        (lambda: AdapterPlan("LoRA", where=()), TypeError, "`where` must be a string"),
        (lambda: AdapterPlan("LoRA", where=3), TypeError, "Received: where=3"),
        (lambda: strategies.lora(GROUPS, epochs=2, rank=0), ValueError, "rank=0"),
        (lambda: strategies.lora(GROUPS, epochs=2, alpha=0.0), ValueError, "alpha=0"),
        (lambda: strategies.adapters(GROUPS, epochs=2, style="flat"), ValueError, "style='flat'"),
        (
            lambda: strategies.by_name("full", GROUPS, epochs=2, rank=4),
            ValueError,
            "`rank` is a setting of adapters, which the strategies 'lora' and 'adapters' train",
        ),
        (
            lambda: TransferPlan.from_json(
                strategies.lora(GROUPS, epochs=2).to_json().replace('"where"', '"wher"')
            ),
            ValueError,
            "`adapters` of the plan must hold known keys only: .* Received: 'wher'",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def model_with(method=None):
    """A small network with two blocks and a head, and adapters by `method` in them."""
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="relu", name="block_1_dense")(inputs)
    x = keras.layers.Dense(8, activation="relu", name="block_2_dense")(x)
    model = FineTuner(inputs, keras.layers.Dense(3, "softmax", name="head")(x), name="small")
    if method is not None:
        peft.add(model, method)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


def rows(count=40):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 6)).astype("float32")
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def weights_of_blocks(model):
    blocks = [layer for layer in model.layers if layer.name.startswith("block")]
    return [weight for layer in blocks for weight in layer.get_weights()]


@pytest.mark.parametrize("method", [None, peft.LoRA(rank=3), peft.BitFit()])
def test_a_model_without_its_adapters_is_refused_with_the_line_to_write(method):
    plan = strategies.lora(GROUPS, epochs=2, rank=2)
    needed = r"must have before it is compiled: `kerastl\.peft\.add\(model, kerastl\.peft\.LoRA\("
    with pytest.raises(ValueError, match=f"{needed}rank=2, alpha=8.0.* Received: 'small'"):
        model_with(method).fit(*rows(), epochs=2, callbacks=[callbacks.FollowPlan(plan)], verbose=0)


def test_adapters_of_other_layers_are_refused_and_so_is_what_stands_still():
    block, another = "block_1", "block_2"
    plan = strategies.lora(model_with().groups, epochs=2, rank=2, where=block)
    adapters = dataclasses.replace(plan.adapters, also_train="head")
    plan = dataclasses.replace(plan, adapters=adapters)
    for where, also_train in ((another, "head"), (block, ())):
        model = model_with(None)
        peft.add(model, peft.LoRA(rank=2), where, also_train=also_train)
        model.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(ValueError, match=rf"where={block!r}.*Received: 'small'"):
            model.fit(*rows(), epochs=2, callbacks=[callbacks.FollowPlan(plan)], verbose=0)


def test_a_fit_trains_adapters_and_the_head_and_gives_the_base_no_slots():
    """From the probe; the head is solved beside adapters that are the identity yet."""
    model = model_with(peft.LoRA(rank=2))
    plan = strategies.lora(
        model.groups, epochs=3, learning_rate=0.03, rank=2, start="probe", schedule=None
    )
    base = weights_of_blocks(model)
    follow = callbacks.FollowPlan(plan)
    model.fit(*rows(), epochs=3, batch_size=8, callbacks=[follow, callbacks.Audit()], verbose=0)
    for got, want in zip(weights_of_blocks(model), base, strict=True):
        np.testing.assert_array_equal(got, want)
    assert all(np.abs(weight).max() > 0 for weight in model.adapter_bank.weights)
    adapters = [*model.adapter_bank.weights, *model.get_layer("head").weights]
    slots = {id(variable) for variable in model.lr_multiplier.slot_variables}
    assert slots == {id(weight) for weight in adapters}
    rates = {rate for _, of_step in follow.rates for rate in of_step.values()}
    assert sorted(rates) == pytest.approx([0.001, 0.01])


def test_a_head_at_zero_has_a_phase_to_itself_and_adapters_stand_still_in_it():
    model = model_with(peft.LoRA(rank=2))
    before = [weight.numpy() for weight in model.adapter_bank.weights]
    plan = strategies.lora(model.groups, epochs=4, learning_rate=0.03, rank=2, schedule=None)
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            [weight.numpy() for weight in model.adapter_bank.weights]
        )
    )
    model.fit(*rows(), epochs=4, callbacks=[callbacks.FollowPlan(plan), watch], verbose=0)
    for got, want in zip(seen[0], before, strict=True):
        np.testing.assert_array_equal(got, want)
    assert any(np.any(got != want) for got, want in zip(seen[1], before, strict=True))
