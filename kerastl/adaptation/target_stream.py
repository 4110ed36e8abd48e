"""Batches of unlabelled examples beside those of `fit`, whose position is state of the training."""

import collections
import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base import checks
from kerastl.data.passes import Passes
from kerastl.training.feeding import passes_of


class TargetStream:
    """Batches of a target domain, one a training step, over and over.

    The terms of this room take arrays and datasets as they are; make a stream of arrays by hand to
    choose how many go into a batch. All batches have one size: what is left over at the end of a
    pass is left out, other rows in each pass.

    Bit for bit a resumed training goes on with arrays and with datasets of
    `kerastl.data.make_dataset`, whose passes are a function of their number. Another dataset is
    read again from its start and skipped to its position, which is the same if each reading gives
    the same batches.

    Args:
        data: Inputs of the model: an array with examples along its first axis or a structure of
            them, shuffled by the seed of `keras.utils.set_random_seed`; or a `tf.data.Dataset` of
            batches of inputs, or of tuples that begin with them. Labels are not read.
        batch_size: Int > 0, examples a batch of arrays, in all replicas together. A dataset comes
            in batches of its own.

    Raises:
        ValueError: If there are no examples.
        TypeError: If `data` are neither arrays nor a dataset.

    Example:
        >>> stream = TargetStream(np.arange(5.0), batch_size=2)
        >>> stream.prepare(num_replicas=1)
        >>> stream.stage(num_steps=1)
        >>> stream.take().shape, int(stream.position)
        (TensorShape([2]), 1)
    """

    def __init__(self, data: Any, batch_size: int = 32) -> None:
        checks.whole(batch_size, 1, 2**31 - 1, "batch_size")
        self._passes: Passes | None = _passes(data, batch_size)
        self._dataset = data if self._passes is None else None
        self.position: Any = None  # int64 variable, batches taken so far
        self._batches: Any = None  # endless, as soon as some are read
        self._ahead: Any = collections.deque()  # batches read and not known to be taken
        self._first = 0  # position of the first of them

    @property
    def state_variables(self) -> list[Any]:
        """List of the variable that says how far it was read."""
        return [] if self.position is None else [self.position]

    def begin(self) -> None:
        """Read from the start again."""
        self._batches = None
        if self.position is not None:
            self.position.assign(0)

    def prepare(self, num_replicas: int) -> None:
        """Make variables, in the scope of the strategy that trains.

        Raises:
            ValueError: If batches cannot be divided among `num_replicas`, or hold what no variable
                does.
        """
        if self.position is not None:
            return
        start = next(self._from(0), None)
        if start is None:
            raise ValueError("The target domain needs at least one batch. Received: an empty one")
        self.batch_size = _length(start)
        if self.batch_size % num_replicas:
            raise ValueError(
                "Batches of the target domain must be divisible among the replicas. "
                f"Received: batches of {self.batch_size} examples for {num_replicas} replicas"
            )
        self.position = _counter("position")
        # A step before which nothing was staged looks for a second batch, which is not there.
        self._staged_at = _counter("staged_at", -1)
        # A step that XLA compiles cannot read a dataset, but it can read a variable.
        self._staged = tf.nest.map_structure(_room_for, start, self._spec)

    def stage(self, num_steps: int) -> None:
        """Put the batches of the next `num_steps` steps where a traced step can read them."""
        position = int(keras.ops.convert_to_numpy(self.position))
        taken = position - self._first
        if self._batches is None or not 0 <= taken <= len(self._ahead):
            self._batches = self._from(position)  # of a training that begins, or goes on
            self._ahead.clear()
        else:
            for _ in range(taken):
                self._ahead.popleft()
        self._first = position
        while len(self._ahead) < num_steps:
            self._ahead.append(next(self._batches))
        self._assign(list(itertools.islice(self._ahead, num_steps)))

    def take(self) -> Any:
        """The next batch, inside the traced step: this replica's share of it."""
        index = tf.convert_to_tensor(self.position) - tf.convert_to_tensor(self._staged_at)
        batch = tf.nest.map_structure(lambda staged: staged[index], self._staged)
        self.position.assign_add(1)
        context = tf.distribute.get_replica_context()
        count = context.num_replicas_in_sync
        if count == 1:
            return batch
        share = self.batch_size // count
        begin = share * context.replica_id_in_sync_group
        return tf.nest.map_structure(lambda part: part[begin : begin + share], batch)

    def identity(self) -> Any:
        """What a run that goes on must have in common with the one before."""
        if self._passes is None:
            dataset: Any = self._dataset
            return str(dataset.element_spec)
        passes = self._passes
        return [passes.fingerprint(), passes.batch_size, passes.seed]

    def _assign(self, batches):
        flat = [tf.nest.flatten(batch) for batch in batches]
        shapes = {tuple(tuple(part.shape) for part in parts) for parts in flat}
        if len(shapes) > 1:
            raise ValueError(
                "Batches of the target domain whose shapes differ need `steps_per_execution=1` in "
                f"`compile`. Received: shapes {checks.listed(sorted(shapes))}"
            )
        for variable, *parts in zip(tf.nest.flatten(self._staged), *flat, strict=True):
            variable.assign(tf.stack(parts))
        self._staged_at.assign(self._first)

    @property
    def _spec(self):
        """Structure of `tf.TensorSpec` of a batch of inputs."""
        if self._passes is not None:
            return self._passes.input_spec
        dataset: Any = self._dataset
        return dataset.map(_inputs).element_spec

    def _from(self, position) -> Iterator[Any]:
        """Batches of inputs, endlessly, from the one at `position`."""
        if self._passes is None:
            dataset: Any = self._dataset
            first = next(iter(dataset.map(_inputs)), None)
            if first is not None:
                yield from _whole(dataset.repeat().map(_inputs), _length(first)).skip(position)
            return
        passes = self._passes
        size = min(passes.batch_size, passes.num_examples)
        number, done = divmod(position, passes.num_examples // size)
        for each in itertools.count(number):
            yield from _whole(passes.epoch(each).map(_inputs), size).skip(done)
            done = 0


def stream_of(target: Any) -> TargetStream:
    """`target`, or a `TargetStream` of the arrays or the dataset that it is."""
    return target if isinstance(target, TargetStream) else TargetStream(target)


def _passes(data, batch_size):
    passes = passes_of(data, batch_size=batch_size, shuffle=True)
    if passes is None and not isinstance(data, tf.data.Dataset):
        raise TypeError(
            "`target` must be arrays of the model's inputs, or a tf.data.Dataset of batches of "
            f"them. Received: {type(data).__module__}.{type(data).__qualname__}"
        )
    if passes is not None and passes.num_examples == 0:
        raise ValueError("`target` must hold at least one example. Received: 0 rows")
    return passes


def _inputs(*element):
    """The inputs of an element: what is alone, or the first of a tuple."""
    return element[0]


def _whole(dataset, size):
    """The batches of `size` examples in `dataset`."""
    return dataset.filter(lambda x: tf.equal(tf.shape(tf.nest.flatten(x)[0])[0], size))


def _length(batch):
    return int(tf.nest.flatten(batch)[0].shape[0])


def _counter(name, start=0):
    return keras.Variable(
        np.int64(start), dtype="int64", trainable=False, aggregation="only_first_replica", name=name
    )


def _room_for(part, spec):
    """Variable for batches like `part`, of those that `spec` tells of, one a step."""
    return tf.Variable(
        tf.zeros([1, *part.shape], part.dtype),
        trainable=False,
        shape=[None, None, *spec.shape[1:]],
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        name="target",
    )
