"""Causal language models: loaded, saved, frozen, and several documents in one row."""

import pathlib

import keras
import keras_hub
import numpy as np
import pytest

from kerastl import FineTuner, backbones
from kerastl.backbones import load_causal, save_preset
from kerastl.freezing import freeze
from tests.backbones import causal_cases as cases
from tests.backbones.causal_cases import CONFIGS, documents, folder, in_one_row, padded
from tests.optimizers.test_lr_multiplier_process import run_script
from tests.tolerances import ELEMENTWISE

# Logits of order 5 after two blocks in float32, summed in rows of other lengths.
BLOCKS = {"rtol": 1e-5, "atol": 1e-5}
STORIES = pathlib.Path(__file__).parents[3] / "shared" / "data" / "stories260k"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Dict from family to a preset folder."""
    root = tmp_path_factory.mktemp("presets")
    return {family: folder(root / family, family) for family in CONFIGS}


@pytest.fixture(scope="module")
def loaded(folders):
    """Dict from family to the plain `CausalLM` of its folder."""
    return {family: load_causal(path) for family, path in folders.items()}


def answers(model, inputs):
    return np.asarray(model(inputs))


@pytest.mark.parametrize("family", CONFIGS)
def test_it_is_the_task_flat(family, loaded):
    """Bit-equal to KerasHub's own, float32, over the same weights."""
    lm, inputs = loaded[family], padded(documents(), 8)
    assert set(lm.model.input) == {"token_ids", "padding_mask"}
    assert lm.model.output.dtype == "float32" and lm.model.output.shape == (None, None, 44)
    np.testing.assert_array_equal(answers(lm.model, inputs), answers(cases.task(family), inputs))
    assert not any(isinstance(layer, keras.Model) for layer in lm.model.layers)
    assert {id(w) for w in lm.model.weights} == {id(w) for w in lm.task.weights}
    assert lm.length == (24 if family in ("GPT2", "OPT") else None)


PACKED = [family for family in CONFIGS if family != "Gemma"]


@pytest.mark.parametrize("family", PACKED)
def test_documents_in_one_row_are_as_alone(family, folders, loaded):
    lm, rows = load_causal(folders[family], packed=True), documents()
    together = answers(lm.model, in_one_row(rows, 18))[0]
    plain = loaded[family].model
    alone = [answers(plain, padded([row], len(row)))[0] for row in rows]
    np.testing.assert_allclose(together[:15], np.concatenate(alone), **BLOCKS)
    # Without their numbers they read one another.
    mixed = answers(plain, padded([np.concatenate(rows)], 18))[0]
    assert np.abs(mixed[5:15] - np.concatenate(alone)[5:]).max() > 0.1


@pytest.mark.parametrize("family", ["GPT2", "Llama"])
def test_a_changed_document_changes_no_other_by_a_bit(family, folders):
    lm, rows = load_causal(folders[family], packed=True), documents()
    before = answers(lm.model, in_one_row(rows, 18))[0]
    after = answers(lm.model, in_one_row([rows[0] % 43 + 1, *rows[1:]], 18))[0]
    np.testing.assert_array_equal(after[5:15], before[5:15])
    assert not np.array_equal(after[:5], before[:5])


def test_masks_and_positions_by_hand():
    numbers = np.array([[1, 1, 1, 2, 2, 0]])
    mask = backbones.packing.DocumentMask()(numbers)
    np.testing.assert_array_equal(mask[0, 1], [True, True, True, False, False, False])
    np.testing.assert_array_equal(mask[0, 4], [False, False, False, True, True, False])
    places = backbones.packing.DocumentPositions()(numbers)
    np.testing.assert_array_equal(places, [[0, 1, 2, 0, 1, 0]])


def test_a_fresh_process_loads_what_a_fine_tuner_saved(folders, tmp_path):
    """With the mask and the positions of documents, of which it has to know the classes."""
    rows = in_one_row(documents(), 18)
    for family in ("GPT2", "Llama"):
        model = FineTuner.from_model(load_causal(folders[family], packed=True).model)
        model.save(tmp_path / f"{family}.keras")
        np.savez(tmp_path / f"{family}.npz", answers=answers(model, rows), **rows)
    script = """
import sys, keras, kerastl, numpy as np
for family in ("GPT2", "Llama"):
    arrays = dict(np.load(f"{sys.argv[1]}/{family}.npz"))
    answers = arrays.pop("answers")
    model = keras.models.load_model(f"{sys.argv[1]}/{family}.keras")
    np.testing.assert_array_equal(np.asarray(model(arrays)), answers)
"""
    run_script(script, tmp_path)


def targets(rows, length):
    ids = padded(rows, length)["token_ids"]
    return np.concatenate([ids[:, 1:], ids[:, :1]], axis=1), (ids > 0).astype("float32")


@pytest.mark.parametrize(
    ("family", "options", "cached"),
    [("GPT2", {"dropout": 0.3}, False), ("GPT2", {"dropout": 0.3}, True), ("Llama3", {}, False)],
)
def test_what_is_frozen_stands_still(family, options, cached, tmp_path):
    """Embeddings and the first block, bit for bit after an epoch with dropout; the rest moves."""
    keras.utils.set_random_seed(0)
    lm = load_causal(folder(tmp_path / "preset", family, **options))
    model = FineTuner.from_model(lm.model)
    freeze(model, ["embeddings", "layer_0"])
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile("adam", loss, run_eagerly=True)
    before = [w.numpy() for w in model.weights]
    rows = documents(6)
    x, (y, weights) = padded(rows, 8), targets(rows, 8)
    model.fit(x, y, 2, sample_weight=weights, verbose=0, cache_frozen=cached)
    frozen = {id(w) for group in ("embeddings", "layer_0") for w in model.groups.variables(group)}
    for old, weight in zip(before, model.weights, strict=True):
        assert np.array_equal(old, weight.numpy()) == (id(weight) in frozen), weight.path


def test_cached_and_uncached_end_alike(folders):
    """The tied embeddings are read below the frontier and, turned round, above it."""
    ends = []
    for cached in (False, True):
        model = FineTuner.from_model(load_causal(folders["Llama"], packed=True).model)
        freeze(model, ["embeddings", "layer_0"])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
        x = {k: np.repeat(v, 2, axis=0) for k, v in in_one_row(documents(), 18).items()}
        y = np.roll(x["token_ids"], -1, axis=1)
        history = model.fit(x, y, 2, 2, shuffle=False, verbose=0, cache_frozen=cached)
        ends.append((history.history["loss"], model.get_weights()))
    np.testing.assert_allclose(ends[0][0], ends[1][0], **ELEMENTWISE)
    for value, expected in zip(ends[1][1], ends[0][1], strict=True):
        np.testing.assert_allclose(value, expected, **BLOCKS)


def test_a_run_holds_its_preset(tmp_path, loaded):
    """`RUN/preset`, written by `save_preset` from what a FineTuner trained."""
    lm, inputs = loaded["Llama"], padded(documents(), 8)
    save_preset(lm.task, tmp_path / "run" / "preset")
    again = load_causal(tmp_path / "run")
    np.testing.assert_array_equal(answers(again.model, inputs), answers(lm.model, inputs))
    assert again.task.preprocessor is None  # the preset has no tokenizer


def test_the_activation_of_gpt2_is_kept(tmp_path):
    """KerasHub forgets it; when the second half fails, it has mended that."""
    task, inputs = cases.task("GPT2"), padded(documents(), 8)
    stock = answers(task, inputs)
    blocks = task.backbone.transformer_layers
    backbones.causal.hub_repairs.use_activation(blocks, keras.activations.relu)
    expected = answers(task, inputs)
    assert np.abs(expected - stock).max() > 0.1
    save_preset(task, tmp_path / "ours")
    np.testing.assert_array_equal(answers(load_causal(tmp_path / "ours").model, inputs), expected)
    task.save_to_preset(str(tmp_path / "theirs"))
    theirs = load_causal(tmp_path / "theirs").model
    np.testing.assert_array_equal(answers(theirs, inputs), stock)


def test_logits_are_float32_under_any_policy(folders):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        task = keras_hub.models.GPT2CausalLM(
            backbone=keras_hub.models.GPT2Backbone(**CONFIGS["GPT2"]), preprocessor=None
        )
        model = backbones.causal._in_float32(keras.Model(task.input, task.output))
    finally:
        keras.config.set_dtype_policy("float32")
    assert task.output.dtype == "bfloat16" and model.output.dtype == "float32"
    assert answers(model, padded(documents(), 8)).dtype == "float32"


def test_other_networks_are_refused(tmp_path):
    tiny = {"vocabulary_size": 9, "num_layers": 1, "num_heads": 1, "hidden_dim": 4}
    bert = keras_hub.models.BertBackbone(**tiny, intermediate_dim=4)
    bert.save_to_preset(tmp_path / "bert")
    for name in (tmp_path / "bert", "bert_tiny_en_uncased", "prosenet"):
        with pytest.raises(
            ValueError, match=r"causal language model.*BertBackbone.*backbones\.load"
        ):
            load_causal(name)
    with pytest.raises(ValueError, match="T5Backbone"):
        load_causal("t5_small_multi")
    with pytest.raises(ValueError, match="Closest: 'gpt2_base_en'"):
        load_causal("gpt9_base_en")


def test_a_block_without_a_mask_is_refused(folders):
    with pytest.raises(ValueError, match=r"packed=True.*GemmaDecoderBlock.*take no mask"):
        load_causal(folders["Gemma"], packed=True)


@pytest.mark.skipif(not STORIES.is_dir(), reason="needs shared/data/stories260k")
def test_a_real_model_writes(tmp_path):
    """260,032 trained weights: what it writes is known to the letter, also from a saved copy."""
    lm = load_causal(STORIES)
    assert lm.length == 256
    save_preset(lm.task, tmp_path / "preset")
    again, inputs = load_causal(tmp_path / "preset"), padded(documents(), 8)
    np.testing.assert_array_equal(answers(again.model, inputs), answers(lm.model, inputs))
    again.task.compile(sampler="greedy", run_eagerly=True)
    text = again.task.generate("Once upon a time", max_length=25)
    assert text.startswith("Once upon a time, there was a little girl named L")
