"""KerasHub's LoRA guide and kerastl, side by side: what is left after saving and loading?

The guide, "Parameter-efficient fine-tuning of GPT-2 with LoRA" of keras.io, calls
`backbone.enable_lora(rank)` and trains. Here both ways train a GPT-2 on the same rows for a few
steps, save it as a `.keras` file and load that.

    python examples/lora_side_by_side.py [PRESET]

Without a preset (such as "gpt2_base_en", which is downloaded) the network is a small one with
random weights: what is counted here does not depend on them.
"""

import os
import pathlib
import sys
import tempfile
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import numpy as np

import kerastl
from kerastl import peft

RANK, LENGTH = 4, 12


def backbone(preset):
    """A GPT-2."""
    keras.utils.set_random_seed(0)
    if preset:
        return keras_hub.models.GPT2Backbone.from_preset(preset)
    return keras_hub.models.GPT2Backbone(
        vocabulary_size=100, num_layers=2, num_heads=4, hidden_dim=32, intermediate_dim=128,
        max_sequence_length=LENGTH,
    )  # fmt: skip


def causal(network):
    """The model from tokens to the logits of the next ones, as KerasHub's task has it."""
    logits = network.token_embedding(network.output, reverse=True)
    return keras.Model(network.input, logits)


def rows():
    """Tokens, and those that come next; the same for both."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 100, (32, LENGTH + 1))
    inputs = {"token_ids": tokens[:, :-1], "padding_mask": np.ones((32, LENGTH))}
    return {name: value.astype("int32") for name, value in inputs.items()}, tokens[:, 1:]


def train(model):
    """A few steps, as in the guide."""
    inputs, targets = rows()
    model.fit(inputs, targets, batch_size=8, epochs=2, verbose=0)


def compile_(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-2), loss)
    return model


def saved_and_loaded(model, folder):
    """The model after a round through a file, and the most that an answer differs by."""
    path = pathlib.Path(folder) / "model.keras"
    inputs, _ = rows()
    before = np.asarray(model(inputs))
    model.save(path)
    loaded = keras.models.load_model(path)
    return loaded, float(np.abs(before - np.asarray(loaded(inputs))).max())


def guide(preset):
    """A model with `enable_lora`, as in the guide, and the weights of its base."""
    network = backbone(preset)
    base = [weight.numpy() for weight in network.weights]
    network.enable_lora(RANK)
    return causal(network), base


def with_kerastl(preset):
    """The same with an adapter of kerastl: query and value, and no other scale than the guide's."""
    network = backbone(preset)
    base = [weight.numpy() for weight in network.weights]
    model = kerastl.FineTuner.from_model(causal(network))
    where = r"transformer_layer_\d+/self_attention/(query|value)"
    peft.add(model, peft.LoRA(rank=RANK, alpha=RANK, scaling="lora"), where)
    return model, base


def left(model, base, folder):
    """What is left of `model` after training, saving and loading."""
    train(compile_(model))
    trained = {"factors": _factors(model), "others": _others(model)}
    steps = int(model.optimizer.iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the optimizer, which is told of below
        loaded, difference = saved_and_loaded(model, folder)
    kept = [weight.numpy() for weight in loaded.weights if "lora" not in weight.path]
    now = [np.array_equal(one, value) for one, value in zip(base, kept, strict=True)]
    known = set(map(_shape_and_sum, model.optimizer.variables))
    moments = [v for v in loaded.optimizer.variables if len(v.shape) > 0]
    return {
        "answers differ after loading by": f"{difference:.0e}",
        "factors that train": len(trained["factors"]),
        "factors that train after loading": len(_factors(loaded)),
        "weights of the base that train": len(trained["others"]),
        "weights of the base that train after loading": len(_others(loaded)),
        "weights of the base that the file has": f"{sum(now)} of {len(base)}",
        "moments of the optimizer that came back": sum(_shape_and_sum(v) in known for v in moments),
        "steps taken": steps,
    }


def _shape_and_sum(variable):
    value = variable.numpy()
    return value.shape, float(np.abs(value).sum()) or None


def _factors(model):
    return [weight for weight in model.trainable_weights if "lora" in weight.path]


def _others(model):
    return [weight for weight in model.trainable_weights if "lora" not in weight.path]


def main(preset=None):
    """Run both and print what is left, a line each."""
    found = {}
    for name, made in (("enable_lora", guide), ("kerastl.peft", with_kerastl)):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = left(*made(preset), folder)
    width = max(map(len, found["enable_lora"]))
    print(f"{'':{width}}  {'  '.join(found)}")
    for line in found["enable_lora"]:
        print(f"{line:{width}}  " + "  ".join(f"{one[line]!s:>11}" for one in found.values()))
    return found


if __name__ == "__main__":
    ours = main(*sys.argv[1:2])["kerastl.peft"]
    sys.exit(ours["factors that train"] != ours["factors that train after loading"])
