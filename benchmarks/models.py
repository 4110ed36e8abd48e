"""The two networks that the benchmarks measure, with one batch or more of made-up input each."""

import keras
import numpy as np


def mobilenet(num_examples=16):
    """MobileNetV2 at 96 pixels with a head for 10 classes; pictures and labels."""
    inputs = keras.Input((96, 96, 3))
    base = keras.applications.MobileNetV2(
        input_tensor=inputs, include_top=False, weights=None, pooling="avg"
    )
    model = keras.Model(inputs, keras.layers.Dense(10, name="classes")(base.output))
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, size=(num_examples, 96, 96, 3)).astype("float32")
    return model, images, rng.integers(0, 10, size=num_examples)


def bert(num_examples=16):
    """A BERT of 4 layers, 128 wide, with a head for 4 classes; texts of 64 tokens and labels."""
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=5000, num_layers=4, num_heads=4, hidden_dim=128, intermediate_dim=512
    )
    outputs = keras.layers.Dense(4, name="classes")(backbone.output["pooled_output"])
    model = keras.Model(backbone.input, outputs)
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 5000, size=(num_examples, 64))
    inputs = {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": np.ones_like(tokens),
    }
    return model, inputs, rng.integers(0, 4, size=num_examples)
