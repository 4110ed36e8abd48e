"""A new network of the same graph, with fewer channels."""

import keras
import numpy as np

from kerastl import _keras
from kerastl.fine_tuner import FineTuner
from kerastl.freezing import freezing_state, restore_freezing


class Cut:
    """What is left of a network's layouts when some choices are gone.

    Args:
        channels: `Channels`.
        gone: Set of choices of `channels.atoms`.
    """

    def __init__(self, channels, gone):
        self._channels, self._gone = channels, gone

    def stay(self, layout):
        """The positions of `layout` that stay."""
        roots = self._channels.atoms.roots(layout).tolist()
        return np.array([i for i, root in enumerate(roots) if root not in self._gone], int)

    def sizes(self, layer):
        """Dict from the name of a setting of `layer` to the size that it says now."""
        flow = self._channels.flows.get(id(layer))
        return {name: len(self.stay(lay)) for name, lay in flow.sizes.items()} if flow else {}

    def sliced(self, layer, weight, value):
        """`value` of a `weight` of `layer` without what is gone."""
        flow = self._channels.flows.get(id(layer))
        for name, axes in flow.axes.items() if flow else ():
            if getattr(layer, name, None) is weight:
                for axis, layout in axes.items():
                    value = np.take(value, self.stay(layout), axis=axis)
        return value


def rebuild(model, flat, cut, changed):
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

    def clone(operation):
        if not isinstance(operation, keras.Layer):
            return operation  # holds nothing; Keras's `clone_model` shares it, too
        if id(operation) not in layers:
            layers[id(operation)] = operation, _clone(operation, cut.sizes(operation))
        return layers[id(operation)][1]

    entries = {id(e.output): e for e in flat.layers if isinstance(e, keras.layers.InputLayer)}
    inputs = [_clone(entries[id(tensor)], {}).output for tensor in flat.inputs]
    values = {id(old): new for old, new in zip(flat.inputs, inputs, strict=True)}
    _keras.run_nodes(_keras.graph_nodes(flat), values, clone)
    kind = FineTuner if isinstance(model, FineTuner) else keras.Model
    structured = keras.tree.pack_sequence_as(flat.input, inputs)
    smaller = kind(structured, _keras.outputs_from(flat, values), name=model.name)
    for layer, new in layers.values():
        for old, fresh in zip(layer.weights, new.weights, strict=True):
            value = changed.get(id(old), None)
            value = keras.ops.convert_to_numpy(old) if value is None else value
            fresh.assign(cut.sliced(layer, old, value))
    restore_freezing(smaller, freezing_state(flat))
    return smaller


def _clone(layer, sizes):
    config = layer.get_config()
    for name, size in sizes.items():
        is_shape = isinstance(config[name], (tuple, list))
        if is_shape and config[name][-1] == -1:
            continue
        config[name] = (*config[name][:-1], size) if is_shape else size
    return type(layer).from_config(config)
