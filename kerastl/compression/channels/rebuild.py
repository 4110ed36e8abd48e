"""A new network of the same graph, with fewer channels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np

from kerastl.compression.kernels import Kernel
from kerastl.compression.masks import hold, mask_of
from kerastl.compression.reads import norms_after, sink_of
from kerastl.freezing import freezing_state, restore_freezing
from kerastl.graph import is_fine_tuner
from kerastl.graph.index import GraphIndex
from kerastl.graph.rewrite import copy_of, rebuilt
from kerastl.training import FineTuner

if TYPE_CHECKING:
    from kerastl.compression.channels.scoring import Reader
    from kerastl.compression.channels.trace import Channels


class Cut:
    """What is left of a network's layouts when some choices are gone.

    Args:
        channels: `Channels`.
        gone: Set of choices of `channels.atoms`.
    """

    def __init__(self, channels: "Channels", gone: set[int]) -> None:
        self._channels, self._gone = channels, gone

    def stay(self, layout: np.ndarray) -> np.ndarray:
        """The positions of `layout` that stay."""
        roots = self._channels.atoms.roots(layout).tolist()
        return np.array([i for i, root in enumerate(roots) if root not in self._gone], int)

    def sizes(self, layer: keras.Operation) -> dict[str, int]:
        """Dict from the name of a setting of `layer` to the size that it says now."""
        flow = self._channels.flows.get(id(layer))
        return {name: len(self.stay(lay)) for name, lay in flow.sizes.items()} if flow else {}

    def sliced(self, layer: keras.Layer, weight: keras.Variable, value: np.ndarray) -> np.ndarray:
        """`value` of a `weight` of `layer` without what is gone."""
        flow = self._channels.flows.get(id(layer))
        for name, axes in flow.axes.items() if flow else ():
            if getattr(layer, name, None) is weight:
                for axis, layout in axes.items():
                    value = np.take(value, self.stay(layout), axis=axis)
        return value


def rebuild(
    model: keras.Model, flat: keras.Model, cut: "Cut", changed: Mapping[int, np.ndarray]
) -> keras.Model:
    """A new model like `flat` with what `cut` leaves.

    Args:
        model: The model that was flattened; a `FineTuner` gives a `FineTuner`.
        flat: Flat functional `keras.Model`.
        cut: `Cut`.
        changed: Dict from the id of a weight of `flat` to the value to take in its place.

    Returns:
        `keras.Model` with layers and weights of its own.
    """
    layers = {}

    def place(node, args, kwargs):
        layer = node.operation
        if not isinstance(layer, keras.Layer):
            return layer(*args, **kwargs)  # holds nothing; Keras's `clone_model` shares it, too
        if id(layer) not in layers:
            layers[id(layer)] = layer, copy_of(layer, **_settings(layer, cut.sizes(layer)))
        return layers[id(layer)][1](*args, **kwargs)

    kind = FineTuner if is_fine_tuner(model) else keras.Model
    smaller = rebuilt(GraphIndex(flat), place, cls=kind)
    for layer, new in layers.values():
        for old, fresh in zip(layer.weights, new.weights, strict=True):
            value = changed.get(id(old), None)
            value = keras.ops.convert_to_numpy(old) if value is None else value
            fresh.assign(cut.sliced(layer, old, value))
            if (mask := mask_of(old)) is not None:
                kernel = Kernel(mask.kernel.path, new, fresh)
                hold(kernel, cut.sliced(layer, old, mask.keep.numpy()))
    restore_freezing(smaller, freezing_state(flat))
    return smaller


def _settings(layer, sizes):
    """The settings of `layer` that say `sizes`, as its config writes them."""
    config, settings = layer.get_config(), {}
    for name, size in sizes.items():
        is_shape = isinstance(config[name], (tuple, list))
        if is_shape and config[name][-1] == -1:
            continue
        settings[name] = (*config[name][:-1], size) if is_shape else size
    return settings


def compensate(
    model: keras.Model, channels: "Channels", readers: Mapping[int, "Reader"], cut: "Cut"
) -> dict[int, np.ndarray]:
    """Weights with which each layer does best, in least squares, without the inputs that go.

    With `x_r ≈ A x_k + b` for the inputs that go and those that stay, `W_k` becomes `W_k + W_r A`,
    and `W_r b` joins the bias, or leaves the mean of the batch normalization that follows.

    Args:
        model: Flat functional `keras.Model`.
        channels: Its `Channels`.
        readers: Dict from the id of a layer to its `Reader`.
        cut: `Cut`.

    Returns:
        Dict from the id of a weight to its new value, in the shape that it has with all channels.

    References:
        He, Zhang & Sun, 2017, section 3.1, https://arxiv.org/abs/1707.06168
    """
    after, changed = norms_after(model), {}
    for reader in readers.values():
        stay = cut.stay(reader.layout)
        leave = np.setdiff1d(np.arange(len(reader.layout)), stay)
        if not len(leave) or not reader.joint:
            continue
        sink = sink_of(reader.layer, after)
        told_by = stay if sink is None else np.append(stay, len(reader.layout))
        share = _least_squares(reader, told_by, leave)
        added = np.einsum("kr,tro->tko", share, reader.kernel[:, leave])
        kernel = reader.kernel.copy()
        kernel[:, stay] += added[:, : len(stay)]
        flow = channels.flows[id(reader.layer)]
        weight = getattr(reader.layer, str(flow.makes))
        changed[id(weight)] = _as_weight(kernel, tuple(weight.shape), flow.mixing_axes)
        if sink is not None:
            variable, sign = sink
            shift = added[:, -1].sum(0)
            changed[id(variable)] = keras.ops.convert_to_numpy(variable) + sign * shift
    return changed


def _least_squares(reader, stay, leave):
    known = reader.steadied[np.ix_(stay, stay)]
    return np.linalg.solve(known, reader.moments[np.ix_(stay, leave)])


def _as_weight(kernel, shape, mixing_axes):
    """Taps × inputs × outputs in the axes of the weight."""
    order = [axis for axis in range(len(shape)) if axis not in mixing_axes] + list(mixing_axes)
    return np.moveaxis(kernel.reshape([shape[axis] for axis in order]), (-2, -1), mixing_axes)
