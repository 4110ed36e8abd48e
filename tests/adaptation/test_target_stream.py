"""Batches of the target are a function of their position, whatever was read before."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.adaptation import TargetStream
from kerastl.data import make_dataset

ROWS = np.arange(7.0, dtype="float32")[:, None]


def taken(stream, count, num_steps=1):
    """The first numbers of the next batches, and the stream goes on."""
    found = []
    for _ in range(0, count, num_steps):
        stream.stage(num_steps)
        found += [stream.take().numpy().ravel().tolist() for _ in range(num_steps)]
    return found


def prepared(data=ROWS, **options):
    keras.utils.set_random_seed(3)
    stream = TargetStream(data, **options)
    stream.prepare(1)
    return stream


def test_passes_leave_out_what_is_over():
    found = taken(prepared(batch_size=3), 8)
    assert {len(batch) for batch in found} == {3}
    passes = [found[i] + found[i + 1] for i in range(0, 8, 2)]
    assert all(len(set(rows)) == 6 for rows in passes)
    assert len({tuple(rows) for rows in passes}) == 4
    assert {row for rows in passes for row in rows} == set(range(7))


def test_fewer_rows_than_a_batch_are_one():
    assert [sorted(batch) for batch in taken(prepared(), 2)] == [list(range(7))] * 2


PIXELS = np.broadcast_to(np.arange(7)[:, None, None, None], (7, 1, 1, 3)).astype("uint8")
DATA = {
    "arrays": lambda: ROWS,
    "make_dataset": lambda: make_dataset(
        PIXELS, range(7), batch_size=3, seed=2, augment=keras.layers.RandomBrightness(0.2, seed=1)
    ),
    "dataset": lambda: tf.data.Dataset.from_tensor_slices((ROWS, ROWS)).batch(3),
    "endless": lambda: tf.data.Dataset.from_tensor_slices(ROWS).repeat().batch(3),
}


@pytest.mark.parametrize("kind", DATA)
def test_it_goes_on_from_any_position(kind):
    whole = taken(prepared(DATA[kind](), batch_size=3), 9)
    stream = prepared(DATA[kind](), batch_size=3)
    for position in (5, 1):
        stream.position.assign(position)
        assert taken(stream, 1) == whole[position : position + 1]
    stream.begin()
    assert taken(stream, 9) == whole


def test_several_steps_at_once_of_which_some_may_not_be_run():
    whole, stream = taken(prepared(batch_size=3), 8), prepared(batch_size=3)
    assert taken(stream, 4, num_steps=2) == whole[:4]
    stream.stage(4)  # the epoch has two left
    assert [stream.take().numpy().ravel().tolist() for _ in range(2)] == whole[4:6]
    assert taken(stream, 2) == whole[6:]


def test_a_step_before_which_nothing_was_staged_is_no_step():
    with pytest.raises(tf.errors.InvalidArgumentError, match="out of bounds"):
        prepared(batch_size=3).take()


def test_several_inputs():
    stream = TargetStream({"a": ROWS, "b": ROWS[:, 0]}, batch_size=2)
    stream.prepare(1)
    stream.stage(1)
    batch = stream.take()
    np.testing.assert_array_equal(batch["a"][:, 0], batch["b"])


def test_refusals():
    with pytest.raises(ValueError, match="`batch_size` must be an int"):
        TargetStream(ROWS, batch_size=0)
    with pytest.raises(TypeError, match=r"must be arrays of the model's inputs.*builtins.str"):
        TargetStream("folder")
    with pytest.raises(ValueError, match=r"at least one example. Received: 0 rows"):
        TargetStream(ROWS[:0])
    with pytest.raises(ValueError, match="at least one batch"):
        TargetStream(tf.data.Dataset.from_tensor_slices(ROWS).batch(3).take(0)).prepare(1)
    with pytest.raises(ValueError, match="batches of 7 examples for 2 replicas"):
        TargetStream(ROWS).prepare(2)
    lengths = tf.data.Dataset.from_generator(
        lambda: iter([np.ones((2, 3), "float32"), np.ones((2, 4), "float32")]),
        output_signature=tf.TensorSpec([None, None], tf.float32),
    )
    stream = TargetStream(lengths)
    stream.prepare(1)
    stream.stage(1)
    with pytest.raises(ValueError, match="need `steps_per_execution=1`"):
        stream.stage(2)
