"""Seconds of tracing apart from those of training: by hand, in `fit`, and across processes."""

import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import FineTuner
from kerastl.callbacks import FollowPlan, Resume
from kerastl.plans import Phase, TransferPlan
from kerastl.training import Seconds, clock
from kerastl.training.fit_state import FitState

PLAN = TransferPlan([Phase(1, 1), Phase(2, 2), Phase(2, "all")])
X, Y = np.ones((12, 4), "float32"), np.zeros((12, 2), "float32")


def tuner(**options):
    layers = [keras.Input((4,))]
    layers += [keras.layers.Dense(2, name=name) for name in ("low", "high", "head")]
    model = FineTuner.from_model(keras.Sequential(layers))
    model.compile("adam", "mse", **options)
    return model


def fitted(model, **options):
    return model.fit(X, Y, batch_size=4, epochs=5, verbose=0, **options).seconds


def test_the_first_call_of_a_graph_beyond_the_median_of_the_next_is_tracing(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(clock, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    told = clock.Clock()
    takes = iter([10.0, 1.0, 9.0, 2.0, 7.0])

    def function(given):
        now[0] += next(takes)

    step = told.timed(function, built=5.0)
    first, other = iter([]), types.SimpleNamespace(element_spec=tf.TensorSpec((3,)))
    for given in (first, first, first, first):
        step(given)
    assert told.seconds == Seconds(tracing=5 + 10 - 2, training=22 - 13, traces=1)
    step(other)  # of another structure, so traced anew
    assert told.seconds == Seconds(tracing=13 + 7, training=29 - 20, traces=2)
    told.go_on_from(Seconds(100, 200, 3)), told.go_on_from(Seconds(100, 200, 3))
    assert told.seconds == Seconds(120, 209, 5)
    told.begin()
    assert told.seconds == Seconds()


def test_a_fit_tells_what_was_traced():
    model = tuner()
    started = time.perf_counter()
    seconds = fitted(model, callbacks=[FollowPlan(PLAN)], cache_frozen=False)
    passed = time.perf_counter() - started
    assert seconds.traces == 3
    assert seconds.tracing > 0 and seconds.training > 0
    assert seconds.tracing + seconds.training <= passed
    assert seconds.tracing > 0.5 * passed  # 15 steps of nothing
    again = model.fit(X, Y, batch_size=4, verbose=0).seconds
    assert again.traces == 0 == again.tracing and again.training < passed


def test_validation_and_frozen_parts_are_traced_too():
    model = tuner()
    options = {"callbacks": [FollowPlan(PLAN)], "validation_data": (X, Y)}
    assert fitted(model, cache_frozen=False, **options).traces == 3 + 1
    cached = tuner()
    options["callbacks"] = [FollowPlan(PLAN)]
    history = cached.fit(X, Y, batch_size=4, epochs=5, verbose=0, **options)
    assert [row["cached"] for row in history.frozen_features] == [False, True, True, False, False]
    # Steps of three phases; validation on rows, on features, on rows; one frozen part.
    assert history.seconds.traces == 3 + 3 + 1


def test_eagerly_nothing_is_traced():
    assert fitted(tuner(run_eagerly=True)).traces == 0


def test_data_that_keras_reads_are_timed_too():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    history = tuner().fit(data, epochs=2, shuffle=False, verbose=0)
    assert history.frozen_features == [] and history.seconds.traces == 1


class Stops(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt


def test_a_resumed_run_keeps_the_seconds_of_the_process_before(tmp_path):
    def callbacks(*more):
        return [FollowPlan(PLAN), *more, Resume(tmp_path)]

    stopped = tuner()
    with pytest.raises(KeyboardInterrupt):
        fitted(stopped, callbacks=callbacks(Stops()), cache_frozen=False)
    before = stopped.fit_state.clock.seconds
    assert before.traces == 2
    after = fitted(tuner(), callbacks=callbacks(), cache_frozen=False)
    assert after.traces == 3 and after.tracing > before.tracing
    state, other = stopped.fit_state.capture(), FitState()
    other.restore(state), other.restore(state)
    assert other.clock.seconds.tracing == state["seconds"]["tracing"]
