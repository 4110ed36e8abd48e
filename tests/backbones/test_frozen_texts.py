"""Frozen embeddings and lower layers of text networks stand still to the bit, dropout and all."""

import keras
import keras_hub
import numpy as np
import pytest

from kerastl import FineTuner, freeze, layer_groups
from kerastl.backbones import load
from tests.tolerances import EXACT

models = keras_hub.models
SMALL = {"vocabulary_size": 30, "num_layers": 3, "num_heads": 2, "hidden_dim": 8}
SMALL |= {"intermediate_dim": 16, "max_sequence_length": 12, "dropout": 0.5}
FAMILIES = {
    "bert": lambda: models.BertBackbone(**SMALL),
    "roberta": lambda: models.RobertaBackbone(**SMALL),
    "distilbert": lambda: models.DistilBertBackbone(**SMALL),
    "deberta": lambda: models.DebertaV3Backbone(**SMALL, bucket_size=4),
    "electra": lambda: models.ElectraBackbone(
        vocab_size=SMALL["vocabulary_size"],
        embedding_dim=8,
        **{name: value for name, value in SMALL.items() if name != "vocabulary_size"},
    ),
}


@pytest.mark.slow_but("bert", "deberta")
@pytest.mark.parametrize("family", list(FAMILIES))
def test_embeddings_and_the_first_layer_stand_still_and_the_others_move(family):
    keras.utils.set_random_seed(1)
    backbone = load(FAMILIES[family](), pooling="avg")
    outputs = keras.layers.Dense(2, activation="softmax", name="predictions")(backbone.output)
    model = FineTuner.from_model(keras.Model(backbone.input, outputs))
    groups = layer_groups(model)
    still = groups.names[:2]
    assert [name.split("_")[0] for name in still] == ["embeddings", "layer"]
    freeze(model, [layer for name in still for layer in groups[name]])
    rng = np.random.default_rng(0)
    inputs = {
        name: np.ones((8, 6), "int32") if name == "padding_mask" else np.zeros((8, 6), "int32")
        for name in backbone.input
    }
    inputs["token_ids"] = rng.integers(1, 30, (8, 6)).astype("int32")
    weights = {
        name: [v for layer in groups[name] for v in layer.variables] for name in groups.names
    }
    before = {name: [v.numpy() for v in found] for name, found in weights.items()}
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(inputs, np.arange(8) % 2, batch_size=4, verbose=0, cache_frozen=False)
    for name, found in weights.items():
        moved = [not np.array_equal(v, old) for v, old in zip(found, before[name], strict=True)]
        if name in still:
            for v, old in zip(found, before[name], strict=True):
                np.testing.assert_allclose(v, old, **EXACT, err_msg=v.path)
        else:
            assert any(moved), name
