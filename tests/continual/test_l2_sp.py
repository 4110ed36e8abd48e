"""L2-SP is the penalty of the paper, from the weights that there were."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.callbacks import GradualUnfreezing, Resume
from kerastl.continual import L2SP
from kerastl.freezing import freeze_to
from kerastl.training import FineTuner
from tests.callbacks.resume_cases import Kill, Killed
from tests.tolerances import EXACT, REDUCTION
from tests.training.terms_cases import X, Y, assert_equal, fitted, make, weights


@pytest.mark.parametrize("proximal", [True, False])
def test_equals_the_loop_written_by_hand(proximal):
    """alpha/2 * ||w_S - w0||² + beta/2 * ||w_new||², equation 2: its gradient, or its step."""
    model = make([L2SP(0.3, 0.2, proximal=proximal)])
    history = fitted(model, epochs=2, batch_size=20).history
    plain = make()
    start = [tf.constant(w) for w in plain.get_weights()]
    sgd, losses, values = keras.optimizers.SGD(0.1, momentum=0.9), [], []
    sgd.build(plain.trainable_variables)
    for _ in range(2):
        body, head = plain.trainable_variables[:2], plain.trainable_variables[2:]
        with tf.GradientTape() as tape:
            moved = [tf.reduce_sum((w.value - s) ** 2) for w, s in zip(body, start, strict=False)]
            new = [tf.reduce_sum(w.value**2) for w in head]
            value = 0.3 / 2 * tf.add_n(moved) + 0.2 / 2 * tf.add_n(new)
            loss = tf.reduce_mean((plain(X) - Y) ** 2) + (0.0 if proximal else value)
        sgd.apply(tape.gradient(loss, plain.trainable_variables), plain.trainable_variables)
        for w, s in zip(body, start, strict=False) if proximal else ():
            w.assign((w + 0.1 * 0.3 * s) / (1 + 0.1 * 0.3))
        for w in head if proximal else ():
            w.assign(w / (1 + 0.1 * 0.2))
        losses.append(float(loss)), values.append(float(value))
    np.testing.assert_allclose(history["loss"], losses, **REDUCTION)
    np.testing.assert_allclose(history["l2_sp"], values, **REDUCTION)
    assert_equal(weights(model), weights(plain), **REDUCTION)


def test_off_is_bit_equal_to_no_term():
    ends = []
    for terms in ((), [L2SP(0.0, 0.0)]):
        model = make(terms)
        ends.append((fitted(model).history, weights(model)))
    assert ends[0][0] == ends[1][0]
    assert_equal(ends[0][1], ends[1][1], **EXACT)


def test_it_holds_weights_near_where_they_started():
    distances = []
    for strength in (0.0, 1.0):
        model = make([L2SP(strength, 0.01)])
        start = weights(model)
        fitted(model, epochs=10)
        distances.append(np.linalg.norm(model.weights[0].numpy() - start[0]))
    assert distances[1] < 0.5 * distances[0]


def test_anchors_of_a_backbone_are_its_weights_when_the_term_was_made():
    """At a rate of 0 the value is that of the weights themselves: by hand, float64."""
    model = make()
    backbone = keras.Model(model.inputs, model.get_layer("body").output)
    term = L2SP(0.3, 0.2, anchors=backbone)
    start = backbone.get_weights()
    for weight in model.weights:
        weight.assign_add(np.full(weight.shape, 0.5))
    model.compile(keras.optimizers.SGD(0.0), "mse", terms=[term])
    history = fitted(model, epochs=1).history
    now = weights(model)
    moved = sum(np.sum((w.astype("float64") - s) ** 2) for w, s in zip(now, start, strict=False))
    new = sum(np.sum(w.astype("float64") ** 2) for w in now[2:])
    assert history["l2_sp"][0] == pytest.approx(0.15 * moved + 0.1 * new, rel=1e-5)
    assert_equal([a.numpy() for a in term.state_variables], start, **EXACT)


def test_a_thaw_finds_the_weights_from_before_and_keeps_the_cache():
    """Frozen weights have no anchor, and no part in the value, before they have slots."""
    term = L2SP(0.3, 0.0)
    model = make([term])
    start = weights(model)
    values = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            values.append(logs["l2_sp"])

    callbacks = [GradualUnfreezing({0: "head", 2: 2}), Watch()]
    history = fitted(model, epochs=4, callbacks=callbacks)
    assert [row["cached"] for row in history.frozen_features] == [True, True, False, False]
    assert values[:2] == [0.0, 0.0] and values[3] > values[2] > 0
    assert_equal([a.numpy() for a in term.state_variables], start[:2], **EXACT)


def test_a_killed_run_goes_on_with_the_anchors_it_began_with(tmp_path):
    def run(*callbacks, folder):
        term = L2SP(0.3, 0.2)
        model = make([term])
        callbacks = [GradualUnfreezing({0: "head", 1: 2}), Resume(tmp_path / folder), *callbacks]
        history = fitted(model, callbacks=callbacks, shuffle=True).history
        return history, [*weights(model), *(a.numpy() for a in term.state_variables)]

    whole = run(folder="whole")
    with pytest.raises(Killed):
        run(Kill(2, 1), folder="killed")
    resumed = run(folder="killed")
    assert resumed[0] == whole[0]
    assert_equal(whole[1], resumed[1], **EXACT)


def test_new_layers_may_be_named():
    model = make([L2SP(0.0, 0.2, where_new="body")], keras.optimizers.SGD(0.0))
    freeze_to(model, 0)
    history = fitted(model, epochs=1).history
    expected = 0.1 * sum(np.sum(w**2) for w in weights(model)[:2])
    assert history["l2_sp"][0] == pytest.approx(expected, rel=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match=r"`strength` must be a number in \[0.0, inf\]"):
        L2SP(-0.1)
    with pytest.raises(ValueError, match="Leave one of them out"):
        L2SP(anchors=make(), where_new="body")
    inputs = keras.Input((4,))
    model = FineTuner(inputs, keras.layers.Dense(2)(inputs))
    model.compile("sgd", "mse", terms=[L2SP(anchors=make())])
    with pytest.raises(ValueError, match="`anchors` must share layers with the model to train"):
        model.fit(X, Y, verbose=0)


def test_a_second_compile_anchors_anew():
    """Anchors are the weights when the first `fit` after a `compile` begins: nothing has moved."""
    term = L2SP(1.0, 0.0)
    model = make([term])
    fitted(model, epochs=2, batch_size=20)
    model.compile(keras.optimizers.SGD(0.0), "mse", terms=[term])
    assert fitted(model, epochs=1, batch_size=20).history["l2_sp"] == [0.0]
