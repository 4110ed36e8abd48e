"""Compression and adaptation are fed by the names of the inputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import adaptation, compression

L = keras.layers


def model_of_two():
    """`zoom` before `angle`, which the alphabet has the other way round."""
    keras.utils.set_random_seed(0)
    zoom, angle = keras.Input((4,), name="zoom"), keras.Input((4,), name="angle")
    far, near = L.Dense(16, "relu", name="far")(zoom), L.Dense(16, "relu", name="near")(angle)
    x = L.BatchNormalization(name="norm")(L.Concatenate()([far, near]))
    return keras.Model([zoom, angle], L.Dense(3, name="head")(x))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return {"angle": rng.random((32, 4), "float32"), "zoom": rng.random((32, 4), "float32") * 100}


def aware(model, data):
    return [w.numpy() for w in compression.quantize_aware(model, data).weights]


def pruned(model, data):
    compression.prune_weights(model, 0.5, data)
    return model.get_weights()


def narrowed(model, data):
    smaller, _ = compression.prune_channels(model, 0.5, data=data, round_to=4)
    return smaller.get_weights()


def adapted(model, data):
    adaptation.adapt_batch_norm(model, data)
    return model.get_weights()


ALL = [aware, pruned, narrowed, adapted]


@pytest.mark.parametrize("do", ALL)
@pytest.mark.parametrize("form", ["dict", "dataset", "generator"])
def test_a_dict_does_what_a_list_in_order_does(do, form, data):
    def batches():
        yield data

    in_order = tf.data.Dataset.from_tensors(((data["zoom"], data["angle"]), np.zeros(32)))
    forms = {
        "dict": data,
        "dataset": tf.data.Dataset.from_tensors((data, np.zeros(32))),
        "generator": batches,
    }
    for ours, theirs in zip(
        do(model_of_two(), forms[form]), do(model_of_two(), in_order), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("do", ALL)
def test_wrong_names_are_refused(do, data):
    wrong = {"zoom": data["zoom"], "angel": data["angle"]}
    with pytest.raises(ValueError, match=r"inputs: zoom, angle\. Received: zoom, angel"):
        do(model_of_two(), wrong)
