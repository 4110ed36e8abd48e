"""Where adapters live: beside the graph, under XLA, on two devices, in a device file."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import kerastl
from kerastl import FineTuner, peft
from kerastl.export import LiteRTModel, to_litert
from kerastl.graph.run import folded_pairs
from tests.peft.peft_cases import (
    adapted,
    blocks_of,
    compiled,
    conv,
    moved,
    outputs,
    rows,
    same_with_and_without_cache,
    trained,
    tuner,
    values,
)
from tests.two_devices import two_and_one


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD(0.1, momentum=0.9), "adam"])
def test_lora_of_full_rank_with_a_held_at_one_is_full_fine_tuning(optimizer):
    """x (W + I B) moves B as it would move W, whatever the optimizer."""
    config = keras.saving.serialize_keras_object(keras.optimizers.get(optimizer))
    losses, kernels = [], []
    for is_adapted in (True, False):
        keras.utils.set_random_seed(3)
        base, model = tuner("bert")
        query = base.get_layer("transformer_layer_1")._self_attention_layer._query_dense
        head = model.get_layer("head")
        head.kernel.assign(np.random.default_rng(5).normal(size=head.kernel.shape))
        if is_adapted:
            where = "transformer_layer_1/self_attention_layer/query"
            peft.add(model, peft.LoRA(rank=8, alpha=8.0, scaling="lora"), where)
            (adapter,) = model.adapter_bank.named["default"].members
            adapter.a.assign(np.eye(8))
            adapter.a.trainable = False
        else:
            kerastl.freeze(model, slice(0, -1))
            kerastl.unfreeze(model, query)
            query.bias.trainable = False
        compiled(model, keras.optimizers.deserialize(config))
        inputs, targets = rows(model)
        history = model.fit(inputs, targets, batch_size=4, epochs=3, verbose=0, shuffle=False)
        losses.append(history.history["loss"])
        if is_adapted:
            peft.merge(model)
        kernels.append(query.kernel.numpy())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    np.testing.assert_allclose(kernels[0], kernels[1], rtol=1e-5, atol=1e-6)


def test_the_base_is_inert_under_an_adapter_that_drops():
    """Dropout of the base rests, that of the adapter acts."""
    _, model = adapted("lora-dropout")
    moved(model)
    inputs, _ = rows(model)
    model_outputs = [np.asarray(model(inputs, training=True)) for _ in range(2)]
    assert not np.array_equal(*model_outputs)
    _, still = adapted("lora")
    moved(still)
    assert np.array_equal(model_and_training(still)[0], model_and_training(still)[1])


def model_and_training(model):
    inputs, _ = rows(model)
    return np.asarray(model(inputs, training=False)), np.asarray(model(inputs, training=True))


def test_dropout_of_an_adapter_on_a_convolution_behind_an_inert_layer():
    """A convolution is not told whether it trains; the layer before was told that it does not."""
    _, model = tuner("conv")
    peft.add(model, peft.LoRA(rank=2, dropout=0.5), "block_2_conv")
    moved(model)
    infers, trains = model_and_training(model)
    assert not np.array_equal(infers, trains)
    assert np.array_equal(infers, np.asarray(model(rows(model)[0])))


def test_batch_normalization_under_an_adapter_keeps_its_statistics():
    base, model = adapted("bitfit-conv")
    norm = base.get_layer("block_1_bn")
    before = values(norm)
    trained(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(norm), strict=True))


def test_a_convolution_with_an_adapter_is_not_folded():
    _, model = tuner("conv")
    assert [conv.operation.name for conv, _ in folded_pairs(model)] == []
    kerastl.freeze(model, slice(0, -1))
    assert [conv.operation.name for conv, _ in folded_pairs(model)][-1] == "block_2_conv"
    peft.add(model, peft.LoRA(rank=2), "block_2_conv")
    assert "block_2_conv" not in [conv.operation.name for conv, _ in folded_pairs(model)]


@pytest.mark.parametrize("name", ["lora", "lora-conv", "bitfit-conv"])
def test_cached_features_train_as_uncached_ones(name):
    """The frontier stands below the first layer with an adapter that trains."""

    def make():
        _, model = adapted(name)
        groups = [group for group in model.groups if group != "head"]
        kerastl.freeze(model, list(groups[:2]))
        return model

    same_with_and_without_cache(make)


def test_cached_features_of_a_frozen_adapter_are_its_own(tmp_path):
    """Two adapters give two sets of features below a frontier, also on disk."""
    losses = []
    for again in range(2):
        keras.utils.set_random_seed(2)
        _, model = adapted("lora")
        moved(model)
        if again:
            for weight in model.adapter_bank.weights:
                weight.assign(2 * weight)
        kerastl.freeze_to(model, -1)
        compiled(model)
        inputs, targets = rows(model)
        history = model.fit(
            inputs, targets, epochs=1, verbose=0, cache_frozen=True, cache_dir=tmp_path
        )
        losses.append(history.history["loss"])
    assert losses[0] != losses[1]


@pytest.mark.slow_but("lora-embedding")
@pytest.mark.parametrize("name", ["lora", "lora-conv", "lora-embedding", "bitfit"])
def test_xla_gives_what_plain_steps_give(name):
    losses = []
    for jit in (True, False):
        keras.utils.set_random_seed(2)
        base, model = adapted(name)
        before = values(base)
        compiled(model, jit_compile=jit)
        inputs, targets = rows(model)
        options = {"batch_size": 4, "epochs": 2, "verbose": 0, "shuffle": False}
        losses.append(model.fit(inputs, targets, **options).history["loss"])
        assert all(np.array_equal(a, b) for a, b in zip(before, values(base), strict=True))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_two_devices_train_as_one(tmp_path):
    two, one = two_and_one(
        """
        from kerastl import peft
        from tests.peft.peft_cases import rows, tuner
        import keras
        def train():
            keras.utils.set_random_seed(4)
            _, model = tuner("bert")
            peft.add(model, peft.LoRA(rank=2))
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.SGD(0.1), loss)
            inputs, targets = rows(model)
            history = model.fit(inputs, targets, batch_size=4, epochs=2, verbose=0, shuffle=False)
            return [np.asarray(history.history["loss"]), *model.adapter_bank.get_weights()]
        """,
        tmp_path,
    )
    for of_two, of_one in zip(two, one, strict=True):
        np.testing.assert_allclose(of_two, of_one, rtol=1e-5, atol=1e-6)


def test_a_fresh_process_loads_an_adapted_model(tmp_path):
    _, model = adapted("lora-dropout")
    trained(model, epochs=1)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "rows.npz", **rows(model)[0])
    program = (
        "import sys, json, numpy as np, keras, kerastl\n"
        "model = keras.models.load_model(sys.argv[1])\n"
        "inputs = dict(np.load(sys.argv[2]))\n"
        "print(json.dumps(np.asarray(model(inputs), 'float64').tolist()))\n"
    )
    paths = [str(tmp_path / name) for name in ("model.keras", "rows.npz")]
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], check=True, capture_output=True, text=True
    )
    assert np.array_equal(json.loads(done.stdout.splitlines()[-1]), outputs(model))


@pytest.mark.parametrize("is_merged", [False, True])
def test_a_device_file_gives_what_the_adapted_model_gives(is_merged, tmp_path):
    _, model = adapted("lora-conv")
    moved(model)
    if is_merged:
        peft.merge(model)
    path = to_litert(model, tmp_path / "model.tflite")
    inputs, _ = rows(model)
    given = LiteRTModel(path).predict(inputs[:1])
    np.testing.assert_allclose(given, outputs(model)[:1], rtol=1e-4, atol=1e-5)


def test_two_models_over_two_bases_do_not_meet():
    _, one = adapted("lora")
    _, other = adapted("lora")
    moved(one)
    before = outputs(other)
    trained(one)
    assert np.array_equal(before, outputs(other))


def test_two_models_over_one_base():
    base, one = adapted("lora")
    with pytest.raises(ValueError, match=r"compute with an adapter"):
        FineTuner.from_model(keras.Model(base.input, base.output["sequence_output"]))
    with pytest.raises(ValueError, match=r"peft\.unload"):
        kerastl.flatten(one)
    peft.unload(one)
    FineTuner.from_model(keras.Model(base.input, base.output["sequence_output"]))


def test_a_base_saved_by_itself_is_the_base(tmp_path):
    plain, _ = tuner("bert")
    base, model = adapted("lora")
    config = base.get_config()
    trained(model)
    base.save(tmp_path / "base.keras")
    loaded = keras.models.load_model(tmp_path / "base.keras")
    assert loaded.get_config() == config and config.keys() == plain.get_config().keys()
    assert all(np.array_equal(a, b) for a, b in zip(values(plain), values(loaded), strict=True))


def test_rates_and_groups_reach_adapters():
    _, model = tuner("bert")
    peft.add(model, peft.LoRA(rank=2))
    compiled(model, multipliers={".*/lora_b": 16.0, "layer_0": 0.5})
    model.make_train_function()
    paths = model.multipliers
    assert {rate for path, rate in paths.items() if path.endswith("lora_b")} == {16.0}
    first = [rate for path, rate in paths.items() if "layer_0" in path and path.endswith("lora_a")]
    assert set(first) == {0.5}
    adapter = model.adapter_bank.named["default"].members[0]
    assert model.groups.group_of(adapter) == "layer_0"


def test_thawing_a_group_thaws_its_adapters_and_never_the_base():
    base, model = adapted("lora")
    kerastl.freeze_to(model, -1)
    assert {v.path.split("/")[0] for v in model.trainable_variables} == {"head"}
    kerastl.unfreeze(model, "layer_1")
    paths = {v.path for v in model.trainable_variables}
    assert any("transformer_layer_1" in path for path in paths)
    assert all(path.startswith(("head", "adapters/transformer_layer_1")) for path in paths)
    assert not base.trainable_variables
    with pytest.raises(ValueError, match=r"stands still"):
        kerastl.unfreeze(model, "embeddings")


def test_a_shared_layer_has_one_adapter():
    inputs = keras.Input((4,))
    shared = keras.layers.Dense(4, name="block_1_shared")
    output = keras.layers.Dense(2, name="head")(shared(shared(inputs)))
    model = FineTuner(inputs, output)
    added = peft.add(model, peft.LoRA(rank=1))
    assert added.paths == ("block_1_shared",) and added.weights == 8


def test_add_refuses():
    _, model = tuner("bert")
    with pytest.raises(TypeError, match=r"FineTuner\.from_model"):
        peft.add(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), peft.LoRA())
    with pytest.raises(TypeError, match=r"must be a method"):
        peft.add(model, "lora")
    with pytest.raises(ValueError, match=r"Closest"):
        peft.add(model, peft.LoRA(), "transformer_layer_7")
    with pytest.raises(ValueError, match=r"acts on Dense.*LayerNormalization"):
        peft.add(model, peft.LoRA(), ".*layer_norm")
    with pytest.raises(ValueError, match=r"without a slash"):
        peft.add(model, peft.LoRA(), name="a/b")
    for method in (peft.LoRA(rank=17), peft.DoRA(rank=17)):
        with pytest.raises(ValueError, match=r"at most 16, the width of 'transformer_layer_0/"):
            peft.add(model, method)
    with pytest.raises(ValueError, match=r"say which by `where`"):
        peft.add(model, peft.LoRA(tokens=[1]))
    with pytest.raises(ValueError, match=r"below 40"):
        peft.add(model, peft.LoRA(tokens=[40]), "token_embedding")
    with pytest.raises(ValueError, match=r"once each"):
        peft.LoRA(tokens=(3, 7, 3))
    assert model.adapter_bank is None and model.trainable_variables
    peft.add(model, peft.LoRA())
    with pytest.raises(ValueError, match=r"of the name 'default'"):
        peft.add(model, peft.LoRA())
    with pytest.raises(ValueError, match=r"is active"):
        peft.delete(model, "default")
    with pytest.raises(ValueError, match=r"needs the name of an adapter"):
        peft.activate(model, "other")
    before = outputs(model)
    for wrong in (["default", "default"], None, 5):
        with pytest.raises(ValueError, match=r"each once"):
            peft.activate(model, wrong)
    assert np.array_equal(before, outputs(model))


def test_a_deleted_adapter_leaves_no_weights_and_the_next_can_be_added_and_trained():
    _, model = adapted("lora", adapter="first")
    count = len(model.weights)
    peft.add(model, peft.LoRA(rank=3), name="second")
    peft.activate(model, "first")
    peft.delete(model, "second")
    assert len(model.weights) == count
    assert not [v.path for v in model.variables if "/second/" in v.path]
    peft.add(model, peft.LoRA(rank=2), name="second")
    trained(model)
    peft.combine(model, ["first", "second"], name="both")
    peft.activate(model, "first")
    peft.delete(model, "both")
    assert "head" in model.groups


def test_merge_refuses_what_is_not_finite_and_changes_nothing():
    base, model = adapted("lora")
    moved(model)
    before = values(base)
    model.adapter_bank.named["default"].members[-1].b.assign(
        np.full_like(model.adapter_bank.named["default"].members[-1].b.numpy(), np.inf)
    )
    with pytest.raises(ValueError, match=r"not finite"):
        peft.merge(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(base), strict=True))
    assert peft.active(model) == ("default",)


def test_a_merged_model_is_not_saved(tmp_path):
    _, model = adapted("lora")
    peft.merge(model)
    with pytest.raises(ValueError, match=r"restore"):
        model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"merged"):
        peft.merge(model)


def test_bert_query_at_rank_8_has_12288_weights():
    """2 · 8 · 768, as the matrix of 768 × 768 that the (768, 12, 64) kernel is."""
    layer = keras.layers.EinsumDense("abc,cde->abde", (None, 12, 64), bias_axes="de")
    layer.build((None, None, 768))
    adapter = peft.LoRA(rank=8).adapter(layer, "query")
    assert sum(int(np.prod(weight.shape)) for weight in adapter.weights) == 12_288


def test_frozen_before_stays_frozen_after():
    _, model = tuner("bert")
    kerastl.freeze(model, "embeddings")
    before = {v.path for v in model.trainable_variables}
    peft.add(model, peft.LoRA())
    peft.unload(model)
    assert {v.path for v in model.trainable_variables} == before
    assert len(blocks_of(model)) and conv().layers


def test_a_clone_of_a_compiled_model_is_the_base():
    base, model = adapted("lora")
    compiled(model, multipliers={".*/lora_b": 16.0}, no_decay=True)
    inputs, targets = rows(model)
    model.fit(inputs, targets, batch_size=4, verbose=0)
    clone = keras.models.clone_model(model)
    assert clone.adapter_bank is None
    assert len(clone.weights) == len(base.weights) + 2  # and the head


def test_no_adapter_comes_while_another_is_merged_or_in_the_midst_of_a_fit():
    _, model = adapted("lora")
    peft.merge(model)
    with pytest.raises(ValueError, match=r"A new adapter needs.*is merged"):
        peft.add(model, peft.BitFit(), ".*query", name="more")
    with pytest.raises(ValueError, match=r"is merged"):
        peft.delete(model, "default")
    peft.restore(model)
    compiled(model)

    class Adds(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            peft.add(self.model, peft.BitFit(), ".*query", name="more")

    inputs, targets = rows(model)
    with pytest.raises(RuntimeError, match=r"in the midst of a `fit`"):
        model.fit(inputs, targets, batch_size=4, verbose=0, callbacks=[Adds()])
    assert list(model.adapter_bank.named) == ["default"]
    assert not model.fit_state.is_running
