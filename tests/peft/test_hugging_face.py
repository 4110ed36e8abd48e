"""Folders of Hugging Face's PEFT, against logits that peft 0.21.2 gave (tests/golden)."""

import json
import pathlib
import shutil
import sys

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kerastl import FineTuner, peft
from kerastl.backbones import load, load_causal
from tests.peft.peft_cases import conv, moved, tuner

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "peft"
CASES = ("bert", "gpt2", "llama")
# Logits of order 1, by two frameworks.
LOGITS = {"rtol": 1e-5, "atol": 1e-5}


def base(case, classes=3):
    """A `FineTuner` with the weights of the tiny network of Hugging Face."""
    if case != "bert":
        return FineTuner.from_model(load_causal(GOLDEN / case / "base").model)
    network = load(GOLDEN / case / "base", pooling="own")
    head = keras.layers.Dense(classes, name="head")(network.output)
    return FineTuner.from_model(keras.Model(network.input, head))


def imported(case):
    model = base(case)
    peft.import_huggingface(model, GOLDEN / case / "adapter")
    return model


def logits(model):
    given = load_file(GOLDEN / "logits.safetensors")
    inputs = {key: given[key].astype("int32") for key in ("token_ids", "padding_mask")}
    if "segment_ids" in model.input:
        inputs["segment_ids"] = np.zeros_like(inputs["token_ids"])
    return np.asarray(model(inputs))


def real(case, values):
    """Those of real tokens: what a model gives at padding is nothing that anyone reads."""
    return values if case == "bert" else values[load_file(GOLDEN / "logits.safetensors")
                                                ["padding_mask"].astype(bool)]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_peft_and_go_back(case, tmp_path):
    expected = load_file(GOLDEN / "logits.safetensors")
    model = imported(case)
    np.testing.assert_allclose(real(case, logits(model)), real(case, expected[case]), **LOGITS)
    if case != "bert":  # whose base of `golden` has another head
        with peft.disabled(model):
            found, wanted = real(case, logits(model)), real(case, expected[f"{case}_base"])
            np.testing.assert_allclose(found, wanted, **LOGITS)
    assert not np.allclose(expected[case], expected[f"{case}_base"], atol=0.1)

    folder = peft.export_huggingface(model, tmp_path / case)
    theirs = load_file(GOLDEN / case / "adapter" / "adapter_model.safetensors")
    ours = load_file(f"{folder}/adapter_model.safetensors")
    assert set(ours) == set(theirs)
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    again = base(case)
    peft.import_huggingface(again, folder)
    assert np.array_equal(logits(model), logits(again))


def test_ranks_and_alphas_by_pattern_are_read_and_written(tmp_path):
    model = imported("bert")
    named = model.adapter_bank.named["default"]
    query = "transformer_layer_1/self_attention_layer/query"
    assert named.method.rank_of(query) == 3
    assert named.method.scale(query) == 1.0  # 3 / 3
    assert named.method.scale("transformer_layer_0/feedforward_intermediate_dense") == 2.5
    assert len(named.members) == 2 * 5 + 1
    said = json.loads(
        pathlib.Path(peft.export_huggingface(model, tmp_path / "x"), "adapter_config.json")
        .read_text()
    )  # fmt: skip
    assert said["rank_pattern"] == {"bert.encoder.layer.1.attention.self.query": 3}
    assert set(said["alpha_pattern"].values()) == {5}
    assert (said["r"], said["lora_alpha"], said["lora_dropout"]) == (2, 3, 0.1)


@pytest.mark.parametrize("scaling", ["rslora", "lora"])
def test_gpt2_that_trained_apart_is_written_as_blocks(scaling, tmp_path):
    """Query and value of different ranks and alphas, no key: one module of the sum of ranks."""
    model = apart(scaling)
    folder = peft.export_huggingface(model, tmp_path / "gpt2")
    tensors = load_file(f"{folder}/adapter_model.safetensors")
    b = tensors["base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"]
    assert b.shape == (24, 5)
    assert not b[:8, 2:].any() and not b[8:16].any() and not b[16:, :2].any()
    again = base("gpt2")
    peft.import_huggingface(again, folder)
    np.testing.assert_allclose(logits(model), logits(again), **LOGITS)


def apart(scaling):
    """GPT-2 with a LoRA on queries and values, of other ranks and alphas."""
    model = base("gpt2")
    where = "transformer_layer_./self_attention/(query|value)"
    method = peft.LoRA(rank=2, scaling=scaling, ranks={".*value": 3}, alphas={".*value": 5.0})
    peft.add(model, method, where, also_train=())
    return moved(model)


@pytest.fixture
def folder(tmp_path):
    """A copy of BERT's folder to change."""
    shutil.copytree(GOLDEN / "bert" / "adapter", tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    "change",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"init_lora_weights": "pissa"},
        {"layer_replication": [[0, 2]]},
        {"something_new": 3},
        {"peft_type": "IA3"},
    ],
)
def test_what_would_be_computed_otherwise_is_refused_by_name(change, folder):
    config = json.loads((folder / "adapter_config.json").read_text()) | change
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=next(iter(change))):
        peft.import_huggingface(tuner("bert")[1], folder)


def test_folders_and_models_that_do_not_fit(folder, tmp_path):
    model = tuner("bert")[1]  # another BERT: of other sizes in the feed-forward part alone
    with pytest.raises(ValueError, match=r"intermediate\.dense.*do not fit"):
        peft.import_huggingface(model, folder)
    assert model.adapter_bank is None
    with pytest.raises(ValueError, match=r"factors for bert\.encoder"):
        peft.import_huggingface(tuner("gpt2")[1], folder)
    network = FineTuner.from_model(conv())
    with pytest.raises(ValueError, match=r"BERT, GPT-2, Llama"):
        peft.import_huggingface(network, folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    more = {**tensors, "base_model.model.bert.x.lora_embedding_A": np.zeros((2, 2), "float32")}
    save_file(more, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"not read.*lora_embedding_A"):
        peft.import_huggingface(model, folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(FileNotFoundError, match=r"pickle"):
        peft.import_huggingface(model, folder)


def test_heads(folder, tmp_path):
    other = base("bert", classes=5)
    with pytest.raises(ValueError, match=r"classifier.*head=False"):
        peft.import_huggingface(other, folder)
    assert other.adapter_bank is None
    peft.import_huggingface(other, folder, head=False)
    assert other.get_layer("head").kernel.trainable
    written = peft.export_huggingface(other, tmp_path / "five")
    saved = load_file(f"{written}/adapter_model.safetensors")
    assert saved["base_model.model.classifier.weight"].shape == (5, 8)
    peft.export_huggingface(other, written, head=False)  # over the older one
    assert not any("classifier" in key for key in load_file(f"{written}/adapter_model.safetensors"))


def test_what_has_no_place_in_such_a_folder(tmp_path):
    _, model = tuner("bert")
    peft.add(model, peft.BitFit(), "transformer_layer_0")
    with pytest.raises(ValueError, match=r"BitFit"):
        peft.export_huggingface(model, tmp_path / "x")
    _, model = tuner("gpt2")
    peft.add(model, peft.LoRA(rank=1))
    with pytest.raises(ValueError, match=r"GPT-2 has no head.*head=False"):
        peft.export_huggingface(model, tmp_path / "x")
    peft.export_huggingface(model, tmp_path / "x", head=False)
    (tmp_path / "y").mkdir()
    with pytest.raises(FileExistsError, match="something else"):
        peft.export_huggingface(model, tmp_path / "y", head=False)
    _, model = tuner("bert")
    peft.add(model, peft.LoRA(rank=1), also_train=["head", "embeddings_layer_norm"])
    with pytest.raises(ValueError, match=r"more trains: embeddings_layer_norm"):
        peft.export_huggingface(model, tmp_path / "z")


if __name__ == "__main__":  # for `make_peft_golden.py check FOLDER`
    to, expected_ = pathlib.Path(sys.argv[1]), {}
    models = {case_: imported(case_) for case_ in CASES}
    models |= {f"gpt2-{scaling_}": apart(scaling_) for scaling_ in ("lora", "rslora")}
    for name_, model_ in models.items():
        peft.export_huggingface(model_, to / name_)
        expected_[name_] = logits(model_)
    save_file(expected_, to / "logits.safetensors")
