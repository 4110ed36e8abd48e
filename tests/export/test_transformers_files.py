"""A language model as files of Hugging Face, and what KerasHub reads wrongly of such files."""

import json
import pathlib

import keras
import keras_hub
import numpy as np
import pytest

from kerastl import export_model
from kerastl._keras import hub_repairs
from kerastl.backbones import CausalLM, load_causal, load_tokens, save_preset
from kerastl.export import to_transformers
from kerastl_cli.main import run
from tests.backbones import causal_cases, text_cases
from tests.tolerances import EXACT

CASES = {
    "gpt2": ("GPT2", {}),
    "llama3": ("Llama3", {"layer_norm_epsilon": 1e-2}),
    "llama3 tied": ("Llama3", {"tie_word_embeddings": True}),
    "mistral": ("Mistral", {}),
    "qwen": ("Qwen", {"use_sliding_window_attention": False}),
    "gemma": ("Gemma", {}),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Dict from case to its task and the folder of its files."""
    root, found = tmp_path_factory.mktemp("files"), {}
    for name, (family, config) in CASES.items():
        task = causal_cases.task(family, **config)
        found[name] = task, to_transformers(CausalLM(task, task), root / name)
    return found


def config_of(folder):
    return json.loads(pathlib.Path(folder, "config.json").read_text())


def answers(model):
    inputs = causal_cases.padded(causal_cases.documents(), 8)
    return keras.ops.convert_to_numpy(model(inputs))


@pytest.mark.parametrize("name", CASES)
def test_loaded_again_it_gives_the_same_logits(name, written):
    task, folder = written[name]
    np.testing.assert_allclose(answers(load_causal(folder).model), answers(task), **EXACT)


def test_keras_hub_alone_reads_another_epsilon_and_rounds(written):
    """When this fails, `hub_repairs.use_epsilon` or `_exact` has nothing left to mend."""
    task, folder = written["llama3"]
    stock = keras_hub.models.Backbone.from_preset(folder)
    assert stock.layer_norm_epsilon == 1e-6 != task.backbone.layer_norm_epsilon
    assert config_of(folder)["rms_norm_eps"] == 1e-2
    task, folder = written["mistral"]
    stock = keras_hub.models.Backbone.from_preset(folder)
    ours, theirs = (b.token_embedding.embeddings.numpy() for b in (task.backbone, stock))
    np.testing.assert_array_equal(theirs, ours.astype("float16").astype("float32"))


@pytest.mark.parametrize("name", ["gelu", "relu"])
def test_the_activation_of_gpt2_is_said(name, tmp_path):
    """KerasHub says `gelu_new` of each."""
    task = causal_cases.task("GPT2")
    activation = keras.activations.get(name)
    hub_repairs.use_activation(task.backbone.transformer_layers, activation)
    folder = to_transformers(CausalLM(task, task), tmp_path / "files")
    assert config_of(folder)["activation_function"] == name


def test_a_run_becomes_files_with_its_tokenizer(tmp_path):
    tokenizer = text_cases.tokenizers()["gpt2"]()
    task = causal_cases.task("GPT2", tokenizer, vocabulary_size=tokenizer.vocabulary_size())
    save_preset(task, tmp_path / "run" / "preset")
    result = export_model(tmp_path / "run", format="huggingface")
    assert result.path == str(tmp_path / "run-huggingface") and result.rows == []
    again = load_causal(result.path)
    np.testing.assert_allclose(answers(again.model), answers(task), **EXACT)
    texts = ["the fox<|endoftext|> 12  34", "Café"]
    for got, expected in zip(
        load_tokens(result.path).ids(texts), load_tokens(tmp_path / "run/preset").ids(texts),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(got, expected)


def test_refusals(tmp_path, capsys):
    causal_cases.folder(tmp_path / "llama", "Llama")
    words = ["export", str(tmp_path / "llama"), "--format", "huggingface"]
    assert run(words) == 2
    assert "GPT2, Llama3, Mistral, Qwen, Gemma" in capsys.readouterr().err
    causal_cases.folder(tmp_path / "gpt2", "GPT2")
    with pytest.raises(FileExistsError, match="exists already"):
        export_model(tmp_path / "gpt2", tmp_path / "llama", format="huggingface")
    with pytest.raises(FileExistsError, match="older files of Hugging Face"):
        export_model(tmp_path / "gpt2", tmp_path / "llama", format="huggingface", overwrite=True)


def test_what_would_not_come_back_equal_is_not_written(tmp_path):
    """KerasHub's reader knows no sliding window of Qwen, though config.json says it."""
    task = causal_cases.task("Qwen")
    with pytest.raises(RuntimeError, match="do not give the logits"):
        to_transformers(CausalLM(task, task), tmp_path / "files")
    assert not (tmp_path / "files").exists()
