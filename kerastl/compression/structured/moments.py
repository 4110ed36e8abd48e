"""What the inputs of each layer look like on some data: how well some channels tell others."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from kerastl import _keras
from kerastl.compression.structured.flow import SEPARABLE

BATCH = 8  # examples at once: every activation of the network is held
ROWS = 4096  # places of a batch that are looked at, of each layer
TINY, SHRINKAGE = 1e-6, 0.01  # of a channel's second moment, see `Reader.steadied`
WIDEST = 4096  # inputs of a layer up to which their joint moments are kept


@dataclasses.dataclass
class Reader:
    """A layer that mixes channels, and the moments of what it reads.

    Attributes:
        layer: The layer.
        layout: Layout of its inputs.
        kernel: Array of taps × inputs × outputs.
        moments: Matrix of second moments of its inputs, and last of the constant 1, so that means
            are in it; a vector of the inputs' own second moments where they are more than
            `WIDEST`.
        rows: Int, places that the moments are means over.
    """

    layer: keras.Layer
    layout: np.ndarray
    kernel: np.ndarray
    moments: np.ndarray
    rows: int

    @property
    def joint(self):
        """Whether `moments` is a matrix."""
        return self.moments.ndim == 2

    @property
    def steadied(self):
        """`moments` with a little more on the diagonal, so that they can be inverted.

        It keeps equal channels from a division by zero, and many channels from being fitted to
        few places: relative to each channel's own moment, and none on the constant.
        """
        own = np.diag(self.moments)
        more = (TINY + SHRINKAGE * len(self.layout) / self.rows) * own
        more[-1] = 0
        return self.moments + np.diag(more + TINY**2 * max(float(own.mean()), TINY))

    @property
    def weights(self):
        """How much each input counts: the squares of its weights in the kernel."""
        return np.square(self.kernel).sum((0, 2))


def read_moments(model, channels, data):
    """A `Reader` for each layer of which inputs may go.

    Args:
        model: Flat functional `keras.Model`.
        channels: Its `Channels`.
        data: Batches of its inputs, as `batches_of` takes them.

    Returns:
        Dict from the id of a layer to its `Reader`.
    """
    free = {atom for atoms in channels.atoms.choices().values() for atom in atoms}
    wanted = {
        id(layer): layer
        for layer in channels.makers
        if not free.isdisjoint(channels.flows[id(layer)].reads.tolist())
    }
    calls = [
        (node.operation, node.input_tensors[0])
        for node in _keras.graph_nodes(model)
        if id(node.operation) in wanted
    ]
    probe = keras.Model(model.inputs, [tensor for _, tensor in calls])
    sums = {key: Sum() for key in wanted}
    for batch in batches_of(data, model):
        values = keras.tree.flatten(probe(batch, training=False))
        for (layer, _), value in zip(calls, values, strict=True):
            sums[id(layer)].add(_read(layer, value))
    if not all(total.rows for total in sums.values()):
        raise ValueError("`data` must hold at least one example. Received: none")
    return {key: _reader(layer, channels, sums[key]) for key, layer in wanted.items()}


def batches_of(data, model):
    """Lists of input tensors, at most `BATCH` examples each.

    Args:
        data: Array, or nested arrays as the inputs of `model` are nested; or a `tf.data.Dataset` or
            other iterable of batches, of inputs alone or of `(inputs, targets, ...)`.
        model: `keras.Model`.
    """
    arrays = keras.tree.flatten(data) if not hasattr(data, "element_spec") else [None]
    if all(hasattr(array, "shape") for array in arrays):
        yield from _chunks(arrays, model)
        return
    for element in data:
        yield from _chunks(
            keras.tree.flatten(keras.utils.unpack_x_y_sample_weight(element)[0]), model
        )


def _chunks(arrays, model):
    if len(arrays) != len(model.inputs):
        raise ValueError(
            f"`data` must have {len(model.inputs)} inputs, as {model.name!r} has. "
            f"Received: {len(arrays)}"
        )
    for array, tensor in zip(arrays, model.inputs, strict=True):
        expected = tuple(tensor.shape)[1:]
        sizes = zip(tuple(array.shape)[1:], expected, strict=False)
        if len(array.shape) != len(expected) + 1 or any(e not in (None, s) for s, e in sizes):
            raise ValueError(
                f"`data` must be batches of inputs of shape {tuple(tensor.shape)}. "
                f"Received: an array of shape {tuple(array.shape)}"
            )
    for start in range(0, len(arrays[0]), BATCH):
        yield [tf.convert_to_tensor(array[start : start + BATCH]) for array in arrays]


class Sum:
    """A sum of second moments over places.

    Attributes:
        total: Array.
        rows: Int, places in it.
    """

    def __init__(self):
        self.total, self.rows = 0.0, 0

    def add(self, values):
        """Add examples × ... × channels, some of the places where there are many."""
        rows = values.reshape(-1, values.shape[-1])
        if len(rows) > ROWS:
            rows = rows[np.random.default_rng(0).choice(len(rows), ROWS, replace=False)]
        rows = rows.astype("float64")
        if rows.shape[1] > WIDEST:
            self.total = self.total + np.square(rows).sum(0)
        else:
            rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
            self.total = self.total + rows.T @ rows
        self.rows += len(rows)


def _read(layer, value):
    """What the mixing kernel of `layer` reads where the layer itself reads `value`."""
    if isinstance(layer, SEPARABLE):
        value = keras.ops.depthwise_conv(
            keras.ops.cast(value, layer.compute_dtype),
            keras.ops.cast(layer.depthwise_kernel, layer.compute_dtype),
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
    return keras.ops.convert_to_numpy(value)


def _reader(layer, channels, moments):
    flow = channels.flows[id(layer)]
    kernel = keras.ops.convert_to_numpy(getattr(layer, flow.makes)).astype("float64")
    kernel = np.moveaxis(kernel, flow.mixing_axes, (-2, -1))
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    return Reader(layer, flow.reads, kernel, moments.total / moments.rows, moments.rows)
