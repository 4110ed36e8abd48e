"""Padded, bucketed, packed, accumulated: one loss and one gradient, that of texts one by one.

The reference is KerasHub's own network in float64, one text a batch without padding, and sums of
losses and gradients in NumPy.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

from kerastl import FineTuner
from kerastl.backbones import CausalLM
from kerastl.backbones.packing import with_documents
from kerastl.graph import flatten
from tests.backbones import causal_cases as cases

# Loss and gradient, as the issue asks, of order 1: float32 sums over two blocks.
SAME = {"rtol": 1e-5, "atol": 1e-5}
FAMILIES = ("GPT2", "Llama")
LENGTHS = (5, 7, 3, 6)


def texts():
    """Ids, targets and weights of each text: prompts weigh nothing, the rest unequally."""
    rng = np.random.default_rng(1)
    for row in cases.documents(4):
        weights = rng.uniform(0.5, 2.0, len(row) - 1)
        weights[: len(row) // 2] = 0
        yield row[:-1], row[1:], weights


@functools.cache
def reference(family):
    """Loss and gradient of all texts, `sum(w * l) / sum(w)`, one by one in float64."""
    task = cases.task(family, dtype="float64")
    total, loss, sums = 0.0, 0.0, [0.0] * len(task.weights)
    for ids, wanted, weights in texts():
        with tf.GradientTape() as tape:
            logits = task(cases.padded([ids], len(ids)))[0]
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
            of_text = tf.reduce_sum(weights * losses)
        found = tape.gradient(of_text, [w.value for w in task.weights])
        sums = [s + tf.convert_to_tensor(g).numpy() for s, g in zip(sums, found, strict=True)]
        total, loss = total + weights.sum(), loss + float(of_text)
    return loss / total, [s / total for s in sums]


def batch(rows, length):
    """A batch of some texts, filled up to `length`: inputs, targets, weights."""
    ids, wanted, weights = zip(*rows, strict=True)
    y = cases.padded(wanted, length)["token_ids"]
    w = np.zeros((len(ids), length), "float32")
    for i, own in enumerate(weights):
        w[i, : len(own)] = own
    return cases.padded(ids, length), y, w


def packed(rows, length):
    """All of `rows` in one."""
    ids, wanted, weights = zip(*rows, strict=True)
    y = cases.padded([np.concatenate(wanted)], length)["token_ids"]
    w = np.zeros((1, length), "float32")
    w[0, : sum(map(len, weights))] = np.concatenate(weights)
    return cases.in_one_row(ids, length), y, w


ROWS = list(texts())
WAYS = {
    "padded": [batch(ROWS, 9)],
    "bucketed": [batch([ROWS[2]], 2), batch([ROWS[0], ROWS[3]], 5), batch([ROWS[1]], 6)],
    "accumulated": [batch(ROWS[:2], 8), batch(ROWS[2:], 8)],
    "one by one": [batch([row], len(row[0])) for row in ROWS],
    "packed": [packed(ROWS, 20)],
    "packed and accumulated": [packed(ROWS[:3], 14), packed(ROWS[3:], 8)],
}


def learnt(family, batches):
    """Loss of an epoch of one step, and the gradient it took: SGD of rate 1."""
    keras.utils.set_random_seed(0)
    task = cases.task(family)
    model = flatten(keras.Model(task.input, task.output))
    lm = CausalLM(with_documents(model) if "documents" in batches[0][0] else model, task)
    tuner = FineTuner.from_model(lm.model)
    cycle = len(batches) if len(batches) > 1 else None
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    tuner.compile(optimizers.SGD(1.0, gradient_accumulation_steps=cycle), loss, run_eagerly=True)
    before = [w.numpy().astype("float64") for w in task.weights]
    specs = [
        {name: tf.TensorSpec((None, None), "int32") for name in batches[0][0]},
        tf.TensorSpec((None, None), "int32"),
        tf.TensorSpec((None, None), "float32"),
    ]
    data = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=tuple(specs))
    data = data.apply(tf.data.experimental.assert_cardinality(len(batches)))
    history = tuner.fit(data, shuffle=False, verbose=0, cache_frozen=False)
    after = [w.numpy().astype("float64") for w in task.weights]
    return history.history["loss"][0], [b - a for b, a in zip(before, after, strict=True)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_way_is_the_sum_one_by_one(family, way):
    loss, gradients = learnt(family, WAYS[way])
    wanted, expected = reference(family)
    np.testing.assert_allclose(loss, wanted, **SAME)
    for gradient, right in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, right, **SAME)


def test_the_gradients_are_large_enough_to_be_told_apart():
    for family in FAMILIES:
        assert max(np.abs(g).max() for g in reference(family)[1]) > 0.1
