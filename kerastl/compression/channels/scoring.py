"""Which channels can be told from the others: the error that is left when one goes."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from kerastl import _keras
from kerastl.compression.batches import batches_of
from kerastl.compression.channels.groups import Atoms
from kerastl.compression.reads import mixed_by, steadied

if TYPE_CHECKING:
    from kerastl.compression.channels.trace import Channels

ROUNDS = 16  # in which the channels of a group go; scores are new in each
GONE = 1e30


class Saliency:
    """The error in the outputs of all layers that read a channel, if the others make up for it.

    For a layer that computes `W x`, taking input `j` away and correcting the other weights by least
    squares changes its outputs by `|W_j|² / (E[x xᵀ]⁻¹)_jj`, here over its outputs' second moment.
    Scores add over the layers that read the channel.

    Args:
        channels: `Channels`.
        readers: Dict from the id of a layer to its `Reader`. Not changed.

    References:
        Hassibi & Stork, 1993 (the optimal brain surgeon, equation 5); Frantar & Alistarh, 2022,
        section 3, https://arxiv.org/abs/2208.11580
    """

    def __init__(self, channels: "Channels", readers: Mapping[int, "Reader"]) -> None:
        self._parts = [_Part(channels.atoms, reader) for reader in readers.values()]

    def knows(self, choices: Collection[int]) -> bool:
        """Whether there is something to score each of `choices` by: what nobody reads has 0."""
        return True

    def scores(self, choices: Collection[int]) -> np.ndarray:
        """Array of the scores of `choices` as things are."""
        place = {choice: i for i, choice in enumerate(choices)}
        return sum((part.scores(place) for part in self._parts), np.zeros(len(choices)))

    def pick(self, choices: Sequence[int], count: int) -> list[int]:
        """The `count` of `choices` that go, some in each round; later scores know they went."""
        alive, gone = list(choices), []
        rounds = min(ROUNDS, count)
        for r in range(rounds):
            now = (count * (r + 1)) // rounds - len(gone)
            order = np.argsort(self.scores(alive), kind="stable")[:now]
            leaving = [alive[i] for i in order]
            for part in self._parts:
                part.remove(set(leaving))
            gone += leaving
            alive = [choice for choice in alive if choice not in set(leaving)]
        return gone


class _Part:
    """One reader's share of the scores."""

    def __init__(self, atoms: Atoms, reader: "Reader") -> None:
        self._choices = atoms.roots(reader.layout)
        weights, moments = reader.weights, reader.moments
        if reader.joint:
            inverse = np.linalg.inv(reader.steadied)
            self._inverse, energy = inverse[:-1, :-1], np.diag(moments)[:-1]
            self._left = np.diag(self._inverse).copy()
        else:
            self._inverse, energy = None, moments
            self._left = 1 / np.maximum(moments, 1e-30)
        self._weights = weights / max(float(weights @ energy), 1e-30)

    def scores(self, place: Mapping[int, int]) -> np.ndarray:
        """Scores of the choices that are keys of `place`, at the positions it says."""
        known = [i for i, choice in enumerate(self._choices.tolist()) if choice in place]
        at = [place[self._choices[i]] for i in known]
        return np.bincount(at, self._weights[known] / self._left[known], minlength=len(place))

    def remove(self, choices: Collection[int]) -> None:
        where = [i for i, choice in enumerate(self._choices.tolist()) if choice in choices]
        if not where or self._inverse is None:
            return
        inverse = self._inverse
        block, rows = inverse[np.ix_(where, where)], inverse[where]
        inverse -= rows.T @ np.linalg.solve(block, rows)
        inverse[where], inverse[:, where] = 0, 0
        self._left = np.diag(inverse).copy()
        self._left[where] = GONE


class Norms:
    """The norms of the filters that make a channel, or the scales it is given.

    The score of a channel adds over all layers that make it, each divided by its mean in its layer,
    so that layers count alike.

    Args:
        channels: `Channels`.
        criterion: `"l1"` or `"l2"` for the norm of the filters, `"gamma"` for the magnitude of the
            scales in batch normalizations.
    """

    def __init__(self, channels: "Channels", criterion: Literal["l1", "l2", "gamma"]) -> None:
        self._total = {}
        measured = _gammas(channels) if criterion == "gamma" else _filters(channels, criterion)
        for values, layout in measured:
            values = values / max(float(values.mean()), 1e-30)
            for choice, value in zip(channels.atoms.roots(layout).tolist(), values, strict=True):
                self._total[choice] = self._total.get(choice, 0.0) + float(value)

    def knows(self, choices: Collection[int]) -> bool:
        """Whether there is something to score each of `choices` by."""
        return all(choice in self._total for choice in choices)

    def scores(self, choices: Collection[int]) -> np.ndarray:
        """Array of the scores of `choices`, divided by their mean."""
        scores = np.array([self._total[choice] for choice in choices])
        return scores / max(float(scores.mean()), 1e-30)

    def pick(self, choices: Sequence[int], count: int) -> list[int]:
        """The `count` of `choices` that score least."""
        order = np.argsort(self.scores(choices), kind="stable")[:count]
        return [choices[i] for i in order]


def _filters(channels, criterion):
    """Norm of each filter, and the layout of the filters, of every layer that makes channels."""
    for layer in channels.makers:
        flow = channels.flows[id(layer)]
        kernel = keras.ops.convert_to_numpy(getattr(layer, flow.makes)).astype("float64")
        axis = flow.mixing_axes[1]
        filters = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
        yield np.linalg.norm(filters, ord=1 if criterion == "l1" else 2, axis=1), flow.output


def _gammas(channels):
    for key, layer in channels.layers.items():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.scale:
            gamma = keras.ops.convert_to_numpy(layer.gamma).astype("float64")
            yield np.abs(gamma), channels.flows[key].axes["gamma"][0]


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
    def joint(self) -> bool:
        """Whether `moments` is a matrix."""
        return self.moments.ndim == 2

    @property
    def steadied(self) -> np.ndarray:
        """`moments`, so that they can be inverted."""
        return steadied(self.moments, len(self.layout), self.rows)

    @property
    def weights(self) -> np.ndarray:
        """How much each input counts: the squares of its weights in the kernel."""
        return np.square(self.kernel).sum((0, 2))


def read_moments(model: keras.Model, channels: "Channels", data: Any) -> dict[int, "Reader"]:
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

    def __init__(self) -> None:
        self.total, self.rows = 0.0, 0

    def add(self, values: np.ndarray) -> None:
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
