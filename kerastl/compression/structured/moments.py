"""What the inputs of each layer look like on some data: how well some channels tell others."""

import dataclasses

import keras
import numpy as np

from kerastl import _keras
from kerastl.compression.batches import batches_of
from kerastl.compression.reads import mixed_by, steadied

ROWS = 4096  # places of a batch that are looked at, of each layer
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
        """`moments`, so that they can be inverted."""
        return steadied(self.moments, len(self.layout), self.rows)

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
            sums[id(layer)].add(keras.ops.convert_to_numpy(mixed_by(layer, value)))
    if not all(total.rows for total in sums.values()):
        raise ValueError("`data` must hold at least one example. Received: none")
    return {key: _reader(layer, channels, sums[key]) for key, layer in wanted.items()}


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


def _reader(layer, channels, moments):
    flow = channels.flows[id(layer)]
    kernel = keras.ops.convert_to_numpy(getattr(layer, flow.makes)).astype("float64")
    kernel = np.moveaxis(kernel, flow.mixing_axes, (-2, -1))
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    return Reader(layer, flow.reads, kernel, moments.total / moments.rows, moments.rows)
