"""More places in a sequence: prefixes and prompts against the tokens that they stand for."""

import functools

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import kerastl
from kerastl import FineTuner, peft
from kerastl.export import LiteRTModel, to_litert
from tests.peft.peft_cases import (
    METHODS,
    adapted,
    bert,
    conv,
    gpt2,
    llama,
    moved,
    outputs,
    rows,
    same_with_and_without_cache,
    scattered,
    tuner,
    values,
    vit,
)

FRONT = (5, 9, 14)  # the tokens that a prefix or prompt stands for
SAME = {"rtol": 1e-6, "atol": 1e-6}  # the same sums of float32, in another place


def text(base, front=FRONT, length=6, count=4):
    """`(inputs, inputs with FRONT before them)`; the last places of some rows are padding."""
    rng = np.random.default_rng(3)
    ids, mask = rng.integers(1, 40, (count, length)), np.ones((count, length), int)
    mask[::2, -2:] = 0
    first = np.tile(np.asarray(front), (count, 1))
    short = {"token_ids": ids, "padding_mask": mask}
    long = {
        "token_ids": np.concatenate([first, ids], 1),
        "padding_mask": np.concatenate([np.ones_like(first), mask], 1),
    }
    if isinstance(base.input, dict) and "segment_ids" in base.input:
        short["segment_ids"] = np.ones_like(ids)
        long["segment_ids"] = np.concatenate([np.zeros_like(first), np.ones_like(ids)], 1)
    return short, long


def sequence_of(base, inputs):
    found = base(inputs, training=False)
    return np.asarray(found["sequence_output"] if isinstance(found, dict) else found)


def roberta():
    return scattered(keras_hub.models.RobertaBackbone(40, 2, 2, 8, 16, max_sequence_length=12))


def distil_bert():
    return scattered(keras_hub.models.DistilBertBackbone(40, 2, 2, 8, 16, max_sequence_length=12))


# By hand: keys and values of real tokens.


def keys_and_values_of(base, kind):
    """Of `FRONT` in each layer, as a prefix has them before a text that keeps its positions."""
    seen = []

    def kept(call, query, key, value, *args, **kwargs):
        seen.append((key, value))
        return call(query, key, value, *args, **kwargs)

    attentions = [layer._self_attention_layer for layer in base.transformer_layers]
    for one in attentions:
        kerastl._keras.put_around(one, "_compute_attention", kept, base)
    ids = np.asarray([FRONT])
    sequence_of(base, {"token_ids": ids, "padding_mask": np.ones_like(ids)})
    for one in attentions:
        kerastl._keras.take_away(one, base)
    if kind == "gpt2":
        return [(key[0], value[0]) for key, value in seen]
    # Turned by their places 0, 1, 2, and the text's begin at 0: back by 3, row by row. Of the two
    # heads, which are one head of keys twice, the first is taken.
    turned = []
    for one, (key, value) in zip(attentions, seen, strict=True):
        turn = functools.partial(one.rotary_embedding_layer, start_index=-len(FRONT))
        back = np.concatenate([turn(key[:, i : i + 1]) for i in range(len(FRONT))], axis=1)
        turned.append((back[0, :, :1], value[0, :, :1]))
    return turned


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_prefix_of_the_keys_and_values_of_real_tokens_is_those_tokens(kind):
    """In GPT-2 with positions of period 3, since a prefix leaves the text its positions."""
    base = {"gpt2": gpt2, "llama": llama}[kind]()
    if kind == "gpt2":
        positions = base.position_embedding.position_embeddings
        positions.assign(np.tile(positions.numpy()[:3], (4, 1)))
    short, long = text(base)
    wanted = sequence_of(base, long)[:, len(FRONT) :]
    found = keys_and_values_of(base, kind)
    model = FineTuner.from_model(keras.Model(base.input, base.output))
    peft.add(model, peft.PrefixTuning(num_tokens=len(FRONT), hidden_dim=0))
    for member, pair in zip(model.adapter_bank.named["default"].members, found, strict=True):
        flat = [np.reshape(part, (len(FRONT), -1)) for part in pair]
        member.rows.assign(np.concatenate(flat, axis=1))
    np.testing.assert_allclose(sequence_of(model, short), wanted, rtol=1e-5, atol=1e-5)


# By hand: embeddings of real tokens.


@pytest.mark.parametrize("make", [bert, gpt2, llama, roberta, distil_bert])
def test_a_prompt_of_embeddings_of_tokens_is_those_tokens(make):
    base = make()
    short, long = text(base)
    wanted = sequence_of(base, long)[:, len(FRONT) :]
    output = base.output["sequence_output"] if isinstance(base.output, dict) else base.output
    model = FineTuner.from_model(keras.Model(base.input, output))
    added = peft.add(model, peft.PromptTuning(num_tokens=3, init_tokens=FRONT))
    assert added.weights == 3 * 8
    np.testing.assert_allclose(sequence_of(model, short), wanted, **SAME)


def test_a_pooler_behind_a_prompt_reads_the_first_real_token():
    base, model = tuner("bert")
    peft.add(model, peft.PromptTuning(num_tokens=3, init_tokens=FRONT))
    short, long = text(base)
    with peft.disabled(model):
        first = base(long)["sequence_output"][:, len(FRONT)]
    pooled = base.get_layer("pooled_dense")(first)
    wanted = model.get_layer("head")(pooled)
    np.testing.assert_allclose(model(short), wanted, **SAME)


def test_a_picture_prompt_is_more_patches():
    """Behind the real ones, too, since the encoder knows no order."""
    base = vit()
    encoder = base.layers[-1]
    patches = base.layers[1](np.random.default_rng(0).normal(size=(2, 8, 8, 4)))
    model = FineTuner.from_model(keras.Model(base.input, base.output))
    peft.add(model, peft.PromptTuning(num_tokens=2))
    (adapter,) = model.adapter_bank.named["default"].members
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 4))
    with_prompt = np.asarray(model(images))
    vectors = np.tile(adapter.vectors.numpy()[None], (2, 1, 1))
    with peft.disabled(model):
        wanted = encoder(np.concatenate([patches, vectors], axis=1))[:, :-2]
    np.testing.assert_allclose(with_prompt, wanted, rtol=1e-5, atol=1e-5)


# Properties.


def test_a_prompt_longer_than_its_tokens_starts_over():
    _, model = tuner("bert")
    peft.add(model, peft.PromptTuning(num_tokens=5, init_tokens=FRONT))
    vectors = model.adapter_bank.named["default"].members[0].vectors.numpy()
    assert np.array_equal(vectors[3:], vectors[:2])


@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_cached_features_train_as_uncached_ones(name):
    """Frozen up to the last block: of the prompt, for which the features are longer, too."""

    def make():
        _, model = adapted(name)
        moved(model)
        if name == "prompt":
            peft.add(model, peft.LoRA(rank=2), "transformer_layer_1/.*", name="lora")
            peft.activate(model, ["default", "lora"])
        kerastl.freeze(model, ["embeddings", "layer_0"])
        return model

    same_with_and_without_cache(make)


def test_where_the_shared_part_of_a_prefix_trains_all_layers_count_as_training():
    """Their keys and values come from it, so that no frontier of frozen features lies behind."""
    base, model = adapted("prefix")
    kerastl.freeze(model, "layer_1")
    assert all(map(kerastl.graph.flags.trains, base.transformer_layers))
    kerastl.freeze(model, "layer_0")
    assert not any(map(kerastl.graph.flags.trains, base.transformer_layers))


def test_the_shared_part_of_a_prefix_is_there_once():
    """3 · 8 + 8 · 5 + 5 weights once, and 5 · 16 + 16 a layer."""
    _, model = adapted("prefix")
    assert sum(weight.size for weight in values(model.adapter_bank)) == 69 + 2 * 96


@pytest.mark.parametrize("name", ["houlsby", "parallel-llama", "prefix", "prompt"])
def test_xla_gives_what_plain_steps_give(name):
    _, model = adapted(name)
    moved(model)
    inputs, _ = rows(model)
    given = {key: tf.constant(value) for key, value in inputs.items()}
    compiled_call = tf.function(lambda x: model(x), jit_compile=True)(given)
    np.testing.assert_allclose(compiled_call, outputs(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["houlsby", "prefix", "prompt"])
def test_a_device_file_gives_what_the_adapted_model_gives(name, tmp_path):
    base = bert()
    inputs = {key: keras.Input((10,), dtype="int32", name=key) for key in base.input}
    head = keras.layers.Dense(3, name="head")(base(inputs)["pooled_output"])
    model = FineTuner.from_model(keras.Model(inputs, head))
    peft.add(model, METHODS[name][0])
    moved(model)
    path = to_litert(model, tmp_path / "model.tflite")
    given = LiteRTModel(path).predict(rows(model, 1)[0])
    np.testing.assert_allclose(given, outputs(model, 1), rtol=1e-4, atol=1e-5)


# Generation.


def language_model(method):
    backbone = gpt2()
    task = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
    model = FineTuner.from_model(task)
    peft.add(model, method, also_train=())
    return task, moved(model)


def test_generation_with_a_cache_sees_a_prefix():
    """Token by token what the whole text gives at once."""
    task, model = language_model(peft.PrefixTuning(num_tokens=3, hidden_dim=5))
    ids = np.random.default_rng(0).integers(1, 40, (2, 8)).astype("int32")
    whole = np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))
    cache = np.zeros((2, 2, 2, 8, 2, 4), "float32")
    for i in range(8):
        logits, _, cache = task.call_with_cache(ids[:, i : i + 1], cache, i)
        np.testing.assert_allclose(logits[:, 0], whole[:, i], rtol=1e-4, atol=1e-5)
    start = {"token_ids": ids, "padding_mask": np.ones_like(ids) * (np.arange(8) < 5)}
    task.compile(sampler="greedy")
    written = task.generate(start, stop_token_ids=None)["token_ids"]
    again = np.asarray(model({"token_ids": written, "padding_mask": np.ones_like(ids)}))
    assert np.array_equal(written[:, 5:], again[:, 4:-1].argmax(-1))


def test_generation_with_a_cache_is_refused_for_a_prompt():
    task, _ = language_model(peft.PromptTuning(num_tokens=2))
    ids = np.ones((1, 4), "int32")
    with pytest.raises(ValueError, match=r"with a cache.*PrefixTuning"):
        task.generate({"token_ids": ids, "padding_mask": ids}, stop_token_ids=None)


# Refusals.


def test_a_text_must_fit_the_positions_behind_a_prompt():
    _, model = tuner("bert")
    with pytest.raises(ValueError, match=r"below 12"):
        peft.add(model, peft.PromptTuning(num_tokens=12))
    peft.add(model, peft.PromptTuning(num_tokens=3))
    with pytest.raises(ValueError, match=r"of 10 tokens are 13 places.*12 positions.*to 9 tokens"):
        outputs(model)


def albert():
    return keras_hub.models.AlbertBackbone(40, 2, 2, 8, 8, 16, max_sequence_length=12)


@pytest.mark.parametrize(
    "make, method, why",
    [
        (conv, peft.PrefixTuning(), "attention layers"),
        (conv, peft.PromptTuning(), "token embedding"),
        (conv, peft.BottleneckAdapter("parallel"), "feed-forward parts"),
        (albert, peft.PromptTuning(num_tokens=2), "is called 2 times"),
        (vit, peft.PromptTuning(init_tokens=(1,)), "tokens of a text"),
    ],
)
def test_refused_by_name(make, method, why):
    base = make()
    output = base.output["sequence_output"] if isinstance(base.output, dict) else base.output
    model = FineTuner.from_model(keras.Model(base.input, output))
    with pytest.raises(ValueError, match=why):
        peft.add(model, method)
    assert model.adapter_bank is None


def test_a_prompt_refuses_an_output_before_the_last_block():
    """Which would have the places of the prompt in it."""
    base = bert()
    between = base.get_layer("transformer_layer_0").output
    model = FineTuner(base.input, {"between": between, "end": base.output["sequence_output"]})
    with pytest.raises(ValueError, match=r"an output of the model comes before"):
        peft.add(model, peft.PromptTuning(num_tokens=2))


def test_nothing_of_them_is_merged():
    for name in ("houlsby", "prefix", "prompt"):
        _, model = adapted(name)
        with pytest.raises(ValueError, match=r"cannot be merged"):
            peft.merge(model)


@pytest.mark.parametrize("method", [peft.PrefixTuning, peft.PromptTuning])
def test_arguments_out_of_range(method):
    with pytest.raises(ValueError, match=r"num_tokens"):
        method(num_tokens=0)
    with pytest.raises(ValueError, match=r"style"):
        peft.BottleneckAdapter("serial")
