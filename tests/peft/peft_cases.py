"""Small models for adapters, and the table of methods that every one of them goes through."""

import keras
import keras_hub
import numpy as np

from kerastl import FineTuner, peft
from tests.tolerances import REDUCTION

# A method, the model it is tried on, and where it acts (None is its own choice).
METHODS = {
    "lora": (peft.LoRA(rank=3), "bert", None),
    "lora-dropout": (peft.LoRA(rank=3, dropout=0.3), "bert", None),
    "lora-conv": (peft.LoRA(rank=2), "conv", None),
    "lora-depthwise": (peft.LoRA(rank=1), "conv", r"block_\d_depthwise"),
    "lora-embedding": (peft.LoRA(rank=2), "bert", "token_embedding"),
    "lora-tokens": (peft.LoRA(tokens=(3, 7)), "bert", "token_embedding"),
    "lora-gpt2": (peft.LoRA(rank=2), "gpt2", None),
    "lora-llama": (peft.LoRA(rank=2), "llama", None),
    "bitfit": (peft.BitFit(), "bert", "all_blocks"),
    "bitfit-conv": (peft.BitFit(), "conv", None),
    "dora": (peft.DoRA(rank=3), "bert", None),
    "dora-conv": (peft.DoRA(rank=2, dropout=0.3), "conv", None),
    "pissa": (peft.PiSSA(rank=3), "llama", None),
    "pissa-conv": (peft.PiSSA(rank=2), "conv", None),
    "shira": (peft.SHiRA(share=0.1), "bert", None),
    "shira-conv": (peft.SHiRA(share=0.1, choice="magnitude"), "conv", None),
    "ia3": (peft.IA3(), "bert", None),
    "ia3-llama": (peft.IA3(), "llama", None),
    "norms": (peft.NormTuning(), "llama", None),
    "norms-conv": (peft.NormTuning(), "conv", None),
    "vera": (peft.VeRA(rank=16), "gpt2", None),
    "vera-conv": (peft.VeRA(rank=8), "conv", None),
    "houlsby": (peft.BottleneckAdapter("houlsby", reduction=2), "bert", None),
    "pfeiffer-conv": (peft.BottleneckAdapter(reduction=2), "conv", None),
    "parallel-llama": (peft.BottleneckAdapter("parallel", reduction=2, scale=4.0), "llama", None),
    "prefix": (peft.PrefixTuning(num_tokens=3, hidden_dim=5), "bert", None),
    "prefix-llama": (peft.PrefixTuning(num_tokens=3, hidden_dim=0), "llama", None),
    "prompt": (peft.PromptTuning(num_tokens=2), "bert", None),
    "prompt-vit": (peft.PromptTuning(num_tokens=2), "vit", None),
}
# Of a method that is there more than once its first name: with these the default tier is content.
FIRST = {type(method): name for name, (method, *_) in reversed(METHODS.items())}.values()
# Names of METHODS that no weights of the base can do: what they compute is not linear, or is more
# places in a sequence.
HAS_NO_MERGE = {
    "houlsby",
    "pfeiffer-conv",
    "parallel-llama",
    "prefix",
    "prefix-llama",
    "prompt",
    "prompt-vit",
}
# Names of METHODS that change what the base gives from the start: more places to attend to.
STARTS_ELSEWHERE = {"prefix", "prefix-llama", "prompt", "prompt-vit"}


SMALL = {"vocabulary_size": 40, "num_layers": 2, "hidden_dim": 8, "intermediate_dim": 16}


def scattered(model, seed=0):
    """`model` with weights of which no two are alike."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        spread = 0.3 * rng.normal(size=weight.shape)
        if "variance" in weight.path or "gamma" in weight.path or "scale" in weight.path:
            spread = 1 + np.abs(spread)
        weight.assign(spread)
    return model


def bert(dtype=None):
    """A network of two encoder layers, dropout on, and a head."""
    return scattered(
        keras_hub.models.BertBackbone(
            **SMALL, num_heads=2, max_sequence_length=12, dropout=0.1, dtype=dtype
        )
    )


def conv(dtype=None):
    """Convolutions of several geometries, with batch normalization and dropout."""
    policy = {"dtype": dtype}
    layers = keras.layers
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="stem_conv", **policy)(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", name="block_1_depthwise", **policy)(x)
    x = layers.BatchNormalization(name="block_1_bn", **policy)(x)
    x = layers.Conv2D(8, 3, groups=2, dilation_rate=2, padding="same", name="block_1_conv",
                      activation="relu", **policy)(x)  # fmt: skip
    x = layers.Conv2D(8, 3, groups=8, padding="same", name="block_2_depthwise", **policy)(x)
    x = layers.Conv2D(8, 1, use_bias=False, name="block_2_conv", **policy)(x)
    x = layers.BatchNormalization(name="block_2_bn", **policy)(x)
    x = layers.Dropout(0.2, name="block_2_drop")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return scattered(keras.Model(inputs, x))


def gpt2(dtype=None):
    return scattered(
        keras_hub.models.GPT2Backbone(
            **SMALL, num_heads=2, max_sequence_length=12, dropout=0.1, dtype=dtype
        )
    )


def llama(dtype=None):
    return scattered(
        keras_hub.models.LlamaBackbone(
            **SMALL, num_query_heads=2, num_key_value_heads=1, dtype=dtype
        )
    )


def vit(dtype=None):
    return scattered(
        keras_hub.models.ViTBackbone(
            image_shape=(8, 8, 4),
            patch_size=4,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=16,
            dtype=dtype,
        )
    )


BASES = {"bert": bert, "conv": conv, "gpt2": gpt2, "llama": llama, "vit": vit}


def tuner(kind, dtype=None):
    """`(base, FineTuner over it with a new head)`; the head's dropout is not there."""
    base = BASES[kind](dtype)
    features = base.output["pooled_output"] if kind == "bert" else base.output
    if kind in ("gpt2", "llama", "vit"):
        features = keras.layers.GlobalAveragePooling1D(name="mean")(features)
    head = keras.layers.Dense(3, name="head", dtype="float32")(features)
    return base, FineTuner.from_model(keras.Model(base.input, head))


def adapted(name, dtype=None, adapter="default"):
    """`(base, FineTuner with the method of this name of METHODS)`."""
    method, kind, where = METHODS[name]
    base, model = tuner(kind, dtype)
    peft.add(model, method, blocks_of(model) if where == "all_blocks" else where, name=adapter)
    return base, model


def blocks_of(model):
    return [layer for name in ("layer_0", "layer_1") for layer in model.groups[name]]


def rows(model, count=12, seed=0):
    """`(inputs, targets)` for a model of `tuner`."""
    rng = np.random.default_rng(seed)
    if not isinstance(model.input, dict):
        return rng.normal(size=(count, 8, 8, 4)).astype("float32"), rng.integers(0, 3, count)
    inputs = {"token_ids": rng.integers(1, 40, (count, 10)), "padding_mask": np.ones((count, 10))}
    inputs["padding_mask"][:, 7:] = rng.integers(0, 2, (count, 1))
    if "segment_ids" in model.input:
        inputs["segment_ids"] = np.zeros((count, 10))
    return {key: value.astype("int32") for key, value in inputs.items()}, rng.integers(0, 3, count)


def compiled(model, optimizer="adam", **kwargs):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **kwargs)
    return model


def trained(model, epochs=2, **kwargs):
    """`model` after some epochs on `rows`, and the losses."""
    inputs, targets = rows(model)
    rate = keras.optimizers.Adam(0.03)
    history = compiled(model, rate).fit(
        inputs, targets, batch_size=4, epochs=epochs, verbose=0, **kwargs
    )
    return history.history["loss"]


def moved(model):
    """`model` with every weight of its adapters drawn, as training would leave it."""
    rng = np.random.default_rng(1)
    for weight in model.adapter_bank.weights:
        if weight.trainable:
            weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
    return model


def values(layer):
    return [weight.numpy() for weight in layer.weights]


def outputs(model, count=12):
    return np.asarray(model(rows(model, count)[0], training=False))


def same_with_and_without_cache(make):
    """Train what `make()` gives, frozen below, with cached features and without; compare."""
    found = []
    for cache in (True, False):
        keras.utils.set_random_seed(2)
        model = compiled(make())
        inputs, targets = rows(model)
        options = {"batch_size": 4, "epochs": 2, "verbose": 0, "shuffle": False}
        history = model.fit(inputs, targets, cache_frozen=cache, **options)
        found.append((history.history["loss"], model.adapter_bank.get_weights()))
    np.testing.assert_allclose(found[0][0], found[1][0], **REDUCTION)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
