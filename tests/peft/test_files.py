"""One adapter as one file: what is in it, what it goes with, and how training goes on."""

import dataclasses
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import kerastl
from kerastl import FineTuner, peft
from tests.peft.peft_cases import (
    FIRST,
    METHODS,
    adapted,
    bert,
    compiled,
    conv,
    moved,
    outputs,
    scattered,
    trained,
    tuner,
    values,
)


def plain(name):
    """A model like `adapted(name)` before anything was added to it."""
    return tuner(METHODS[name][1])[1]


def saved(tmp_path, name="lora", **kwargs):
    """`(path, the model that was written to it)`, all weights of the adapter and head drawn."""
    _, model = adapted(name)
    moved(model)
    peft.save(model, tmp_path / "x.adapter", **kwargs)
    return tmp_path / "x.adapter", model


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.slow_but(*FIRST)
def test_a_loaded_adapter_gives_what_the_saved_one_gave(name, tmp_path):
    path, model = saved(tmp_path, name)
    loaded = plain(name)
    before = outputs(loaded)
    added = peft.load(loaded, path)
    assert not np.array_equal(before, outputs(loaded))
    assert np.array_equal(outputs(model), outputs(loaded))
    assert (added.name, peft.active(loaded)) == ("default", ("default",))
    trains = [[v.path for v in one.trainable_variables] for one in (model, loaded)]
    assert trains[0] == trains[1]


PROGRAM = """
import json, sys, numpy as np, keras, kerastl
from kerastl import peft
from tests.peft.peft_cases import compiled
from tests.peft.test_files import OPTIONS, begun, few_rows
model = begun()
peft.load(model, sys.argv[1])
compiled(model, keras.optimizers.Adam(0.03))
history = model.fit(*few_rows(), **OPTIONS).history
np.savez(sys.argv[2], *[np.asarray(v) for v in [*model.variables, *model.optimizer.variables]])
print(json.dumps(history["loss"]))
"""
OPTIONS = {"batch_size": 4, "epochs": 2, "verbose": 0, "shuffle": False}


def begun():
    """Two blocks and a head with dropout and a batch normalization, which keep a state."""
    layers = keras.layers
    inputs = keras.Input((8,))
    x = layers.Dense(8, activation="relu", name="block_1_dense")(inputs)
    x = layers.Dense(8, activation="relu", name="block_2_dense")(x)
    x = layers.BatchNormalization(name="head_norm")(x)
    x = layers.Dropout(0.2, name="head_drop")(x)
    return scattered(FineTuner(inputs, layers.Dense(3, name="head")(x)))


def few_rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 8)).astype("float32"), rng.integers(0, 3, 12)


def test_training_goes_on_in_a_fresh_process_bit_for_bit(tmp_path):
    """Adam, dropout in the adapter and the head, statistics that move, a frozen group."""
    model = begun()
    also = [model.get_layer(name) for name in ("head_norm", "head_drop", "head")]
    peft.add(model, peft.LoRA(rank=2, dropout=0.3), also_train=also)
    kerastl.freeze(model, "block_1")
    compiled(model, keras.optimizers.Adam(0.03))
    model.fit(*few_rows(), **OPTIONS)
    peft.save(model, tmp_path / "x.adapter")
    expected = model.fit(*few_rows(), **OPTIONS).history["loss"]

    paths = [str(tmp_path / "x.adapter"), str(tmp_path / "all.npz")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *paths], check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == expected
    found = np.load(tmp_path / "all.npz")
    variables = [*model.variables, *model.optimizer.variables]
    assert len(found.files) == len(variables)
    for key, variable in zip(found.files, variables, strict=True):
        assert np.array_equal(found[key], np.asarray(variable)), variable.path


def test_it_holds_no_base_and_is_small(tmp_path):
    """The weights of the adapter and head, two moments each, and little else."""
    model = begun()
    peft.add(model, peft.LoRA(rank=2), also_train=[model.get_layer("head")])
    compiled(model).fit(*few_rows(), **OPTIONS)
    peft.save(model, tmp_path / "with.adapter")
    peft.save(model, tmp_path / "without.adapter", optimizer=False)
    tensors = load_file(tmp_path / "without.adapter")
    assert {key.split("/")[0] for key in tensors} == {"adapter", "model", "random"}
    assert {key.split("/")[1] for key in tensors if key.startswith("model/")} == {"head"}
    mine = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    held = [v for key, v in tensors.items() if not key.startswith("random/")]
    assert sum(v.size for v in held) == mine
    everything = sum(v.size for v in load_file(tmp_path / "with.adapter").values())
    assert 3 * mine <= everything < 3 * mine + 30  # clocks, counters and random states
    assert sorted(os.listdir(tmp_path)) == ["with.adapter", "without.adapter"]


def test_biases_and_statistics_that_moved_ride_along(tmp_path):
    """A bias of the base that was thawed, and a batch normalization outside it."""
    _, model = tuner("conv")
    also = [model.get_layer("head"), model.get_layer("block_2_bn")]
    peft.add(model, peft.LoRA(rank=2), "block_1_conv", also_train=also)
    stem = model.get_layer("stem_conv")
    stem.bias.trainable = True
    trained(model, epochs=1)
    peft.save(model, tmp_path / "x.adapter")
    _, loaded = tuner("conv")
    peft.load(loaded, tmp_path / "x.adapter")
    assert np.array_equal(outputs(model), outputs(loaded))
    for name in ("block_2_bn", "stem_conv"):
        pairs = zip(values(model.get_layer(name)), values(loaded.get_layer(name)), strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs)
    assert loaded.get_layer("stem_conv").bias.trainable
    assert not loaded.get_layer("stem_conv").kernel.trainable
    fresh = conv().get_layer("block_2_bn").moving_mean
    assert not np.array_equal(fresh, model.get_layer("block_2_bn").moving_mean)


def test_names_that_keras_makes_up_are_told_by_position(tmp_path):
    def made():
        keras.utils.set_random_seed(3)
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(4)(keras.layers.Dense(6, activation="relu")(inputs))
        return FineTuner(inputs, keras.layers.Dense(2, name="head")(hidden))

    one, other = made(), made()
    assert one.layers[1].name != other.layers[1].name
    peft.add(one, peft.LoRA(rank=1), [one.layers[1]])
    moved(one)
    peft.save(one, tmp_path / "x.adapter")
    peft.load(other, tmp_path / "x.adapter")
    x = np.ones((1, 4), "float32")
    assert np.array_equal(np.asarray(one(x)), np.asarray(other(x)))


def test_a_second_one_beside_the_first(tmp_path):
    path, model = saved(tmp_path)
    expected = outputs(model)
    _, other = adapted("lora", adapter="mine")
    with pytest.raises(ValueError, match=r"peft\.delete\(model, 'mine'\)"):
        peft.load(other, path, "mine")
    peft.load(other, path, "theirs")
    assert peft.active(other) == ("theirs",)
    assert np.array_equal(outputs(other), expected)
    peft.save(other, path, "mine")
    assert peft.load(plain("lora"), path).name == "mine"
    peft.activate(other, ["mine", "theirs"])
    with pytest.raises(ValueError, match=r"2 act"):
        peft.save(other, path)


def test_a_head_that_moved_and_stands_still_now_is_in_the_file(tmp_path):
    _, model = adapted("lora", adapter="a")
    trained(model, epochs=1)
    peft.add(model, peft.LoRA(rank=1), name="b", also_train=())
    peft.activate(model, "a")
    peft.save(model, tmp_path / "x.adapter", "a", optimizer=False)
    other = plain("lora")
    peft.load(other, tmp_path / "x.adapter")
    assert np.array_equal(outputs(other), outputs(model))


def test_another_base_is_refused_with_what_differs(tmp_path):
    path, _ = saved(tmp_path)
    model = plain("lora")
    names = ("transformer_layer_0", "transformer_layer_1")
    for name in names:
        query = model.get_layer(name)._self_attention_layer._query_dense
        query.kernel.assign(query.kernel + 1e-3)
    with pytest.raises(ValueError, match=r"2 of other values.*transformer_layer_0/.*/query"):
        peft.load(model, path)
    assert model.adapter_bank is None
    with pytest.raises(ValueError, match=r"11 missing \(segment_embedding.* and 8 more"):
        peft.load(tuner("gpt2")[1], path)
    inputs = keras.Input((4,))
    dense = [keras.layers.Dense(n, name="block_1_dense") for n in (6, 7)]
    one, other = (FineTuner(inputs, keras.layers.Dense(2, name="head")(d(inputs))) for d in dense)
    peft.add(one, peft.LoRA(rank=1))
    peft.save(one, path)
    with pytest.raises(ValueError, match=r"1 of other shapes \(block_1_dense\)"):
        peft.load(other, path)


def test_another_head_is_refused_and_the_adapter_alone_is_not(tmp_path):
    path, model = saved(tmp_path)
    base = bert()
    head = keras.layers.Dense(5, name="head")(base.output["pooled_output"])
    other = FineTuner.from_model(keras.Model(base.input, head))
    with pytest.raises(ValueError, match=r"head has weights of \(8, 3\).*head=False"):
        peft.load(other, path)
    before = values(other.get_layer("head"))
    peft.load(other, path, head=False)
    assert all(map(np.array_equal, before, values(other.get_layer("head"))))
    assert other.get_layer("head").kernel.trainable
    pairs = zip(values(model.adapter_bank), values(other.adapter_bank), strict=True)
    assert all(np.array_equal(one, two) for one, two in pairs)


def test_files_that_are_none(tmp_path):
    path, model = saved(tmp_path)
    whole = path.read_bytes()
    for content, said in (
        (whole[: len(whole) // 2], "cut short"),
        (whole[:-3] + b"abc", "cut short or altered"),
        (b"no adapter at all", "no adapter file"),
        (b"", "no adapter file"),
        (whole.replace(b'"version":"1"', b'"version":"9"'), "Update kerastl"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            peft.load(plain("lora"), path)
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(ValueError, match="no adapter file"):
        peft.load(plain("lora"), path)
    with pytest.raises(FileNotFoundError, match=r"Closest: 'x\.adapter'"):
        peft.load(plain("lora"), tmp_path / "y.adapter")
    with pytest.raises(ValueError, match=r"end in \.adapter"):
        peft.save(model, tmp_path / "x.safetensors")
    peft.merge(model)
    with pytest.raises(ValueError, match=r"peft\.restore"):
        peft.save(model, path)
    with pytest.raises(ValueError, match=r"peft\.restore"):
        peft.load(model, path, "other")


def test_another_optimizer_is_refused_and_can_be_left_out(tmp_path):
    model = begun()
    peft.add(model, peft.LoRA(rank=2))
    compiled(model, keras.optimizers.Adam(0.03)).fit(*few_rows(), **OPTIONS)
    peft.save(model, tmp_path / "x.adapter")
    loaded = begun()
    peft.load(loaded, tmp_path / "x.adapter")
    for optimizer, said in ((keras.optimizers.Adam(0.01), "learning_rate"), ("sgd", "optimizer")):
        with pytest.raises(ValueError, match=rf"{said} \(.*optimizer=False"):
            compiled(loaded, optimizer)
        assert not loaded.compiled
    with pytest.raises(ValueError, match=r"multipliers"):
        compiled(loaded, keras.optimizers.Adam(0.03), multipliers={"head": 0.5})
    compiled(loaded, keras.optimizers.Adam(0.03))
    assert int(loaded.optimizer.iterations) == 6
    anew = begun()
    peft.load(anew, tmp_path / "x.adapter", optimizer=False)
    compiled(anew, "sgd")
    assert not anew.optimizer.built


def test_a_method_that_is_not_known_is_not_looked_for(tmp_path):
    """A file names a class of this process, never a module to import."""

    @dataclasses.dataclass(frozen=True)
    class Mine(peft.BitFit):
        strength: float = 1.0

    _, model = tuner("bert")
    peft.add(model, Mine(strength=2.0), "transformer_layer_1")
    peft.save(model, tmp_path / "x.adapter")
    loaded = plain("lora")
    peft.load(loaded, tmp_path / "x.adapter")
    assert loaded.adapter_bank.named["default"].method == Mine(strength=2.0)
    Mine.__name__ = "Another"
    with pytest.raises(ValueError, match=r"method 'Mine', and known are Another, BitFit, "):
        peft.load(plain("lora"), tmp_path / "x.adapter")
