"""LoRA folders of Hugging Face's peft, tiny, and the logits they give: run by hand, never by tests.

    python -m venv /tmp/hf && /tmp/hf/bin/pip install peft==0.21.2 torch transformers
    /tmp/hf/bin/python tests/golden/make_peft_golden.py              # writes tests/golden/peft
    /tmp/hf/bin/python tests/golden/make_peft_golden.py check FOLDER # reads what kerastl exported

`check` has peft load folders that kerastl exported, each onto its base, and prints the largest
difference from the logits that kerastl gives at tokens that are no padding.
`PYTHONPATH=. python -m tests.peft.test_hugging_face FOLDER` writes them. With peft 0.21.2,
transformers 5.24.0 and torch 2.14.1: bert 1.5e-07, gpt2 4.5e-06, gpt2-lora 1.7e-06, gpt2-rslora
2.2e-06, llama 3.3e-06.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import peft
import torch
import transformers
from safetensors.numpy import load_file, save_file

HERE = pathlib.Path(__file__).parent / "peft"
SIZES = {"vocab_size": 24, "initializer_range": 0.4}
BASES = {
    "bert": (
        transformers.BertForSequenceClassification,
        transformers.BertConfig(
            hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
            max_position_embeddings=10, num_labels=3, **SIZES,
        ),
    ),
    "gpt2": (
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config(
            n_embd=8, n_layer=2, n_head=2, n_positions=10, bos_token_id=0, eos_token_id=0, **SIZES
        ),
    ),
    "llama": (
        transformers.LlamaForCausalLM,
        transformers.LlamaConfig(
            hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            intermediate_size=12, max_position_embeddings=10, bos_token_id=0, eos_token_id=0,
            tie_word_embeddings=False, **SIZES,
        ),
    ),
}  # fmt: skip
ADAPTERS = {
    "bert": peft.LoraConfig(
        task_type="SEQ_CLS", r=2, lora_alpha=3, lora_dropout=0.1,
        target_modules=["query", "value", "dense"],
        rank_pattern={r"encoder.layer.1.attention.self.query": 3},
        alpha_pattern={"intermediate.dense": 5},
    ),
    "gpt2": peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, lora_alpha=4, use_rslora=True, fan_in_fan_out=True,
        target_modules=["c_attn", "c_proj", "c_fc"],
    ),
    "llama": peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, lora_alpha=4,
        target_modules=[
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
        ],
    ),
}  # fmt: skip


def inputs():
    """Two texts, the second with padding at its end."""
    ids = np.random.default_rng(0).integers(1, SIZES["vocab_size"], (2, 7))
    mask = np.ones_like(ids)
    mask[1, 5:] = 0
    return ids, mask


def logits(model):
    ids, mask = (torch.tensor(part) for part in inputs())
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=mask).logits.numpy()


def base_of(case):
    kind, _ = BASES[case]
    return kind.from_pretrained(HERE / case / "base")


def make():
    shutil.rmtree(HERE, ignore_errors=True)
    found = dict(zip(("token_ids", "padding_mask"), inputs(), strict=True))
    for case, (kind, config) in BASES.items():
        torch.manual_seed(1)
        kind(config).save_pretrained(HERE / case / "base")
        model = peft.get_peft_model(base_of(case), ADAPTERS[case])
        generator = torch.Generator().manual_seed(2)
        for name, weight in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                weight.data = 0.3 * torch.randn(weight.shape, generator=generator)
        found[f"{case}_base"], found[case] = logits(base_of(case)), logits(model)
        model.save_pretrained(HERE / case / "adapter")
        tidy(HERE / case)
    save_file(found, HERE / "logits.safetensors")
    print(f"peft {peft.__version__}, transformers {transformers.__version__}, "
          f"torch {torch.__version__}")  # fmt: skip


def tidy(folder):
    """Leave the files that are read, without the path that the base had."""
    kept = ("config.json", "model.safetensors", "adapter_config.json", "adapter_model.safetensors")
    for path in folder.glob("*/*"):
        path.chmod(0o644)
        if path.name not in kept:
            path.unlink()
    said = folder / "adapter" / "adapter_config.json"
    config = json.loads(said.read_text())
    config["base_model_name_or_path"] = None
    config["target_modules"].sort()
    said.write_text(json.dumps(config, indent=2) + "\n")


def check(folder):
    """Have peft load what kerastl exported, and print by how much the logits differ."""
    real = inputs()[1].astype(bool)
    for name, expected in load_file(f"{folder}/logits.safetensors").items():
        case = name.partition("-")[0]
        found = logits(peft.PeftModel.from_pretrained(base_of(case), f"{folder}/{name}"))
        differences = np.abs(found - expected)[... if case == "bert" else real]
        print(f"{name}: largest difference {differences.max():.2e}")


if __name__ == "__main__":
    check(sys.argv[2]) if sys.argv[1:2] == ["check"] else make()
