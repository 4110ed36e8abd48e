"""The channels of a whole network: every layer's flow, over its graph."""

import dataclasses

import keras

from kerastl import _keras
from kerastl.compression.channels.flow import Call, Flow, flow_of
from kerastl.compression.channels.groups import Atoms


@dataclasses.dataclass
class Channels:
    """What `trace` found.

    Attributes:
        atoms: `Atoms`.
        flows: Dict from the id of a layer to its `Flow`.
        layers: Dict from the id of a layer to the layer, for those with a flow.
    """

    atoms: Atoms
    flows: dict[int, Flow] = dataclasses.field(default_factory=dict)
    layers: dict[int, keras.Layer] = dataclasses.field(default_factory=dict)

    @property
    def makers(self) -> list[keras.Layer]:
        """List of the layers that make channels, in the order of the network."""
        return [self.layers[key] for key, flow in self.flows.items() if flow.makes]


def trace(model: keras.Model) -> "Channels":
    """Follow the channels of a flat functional model from its inputs to its outputs.

    Args:
        model: Flat functional `keras.Model`.

    Returns:
        `Channels`. Where an operation is not known to keep channels apart, those it reads and
        those it returns must stay, and the reason is remembered.
    """
    found, layouts, given = Channels(Atoms()), {}, {}
    for tensor in model.inputs:
        layouts[id(tensor)] = _fixed(found.atoms, tensor.shape, "is an input of the model")
    for node in _keras.graph_nodes(model):
        call = _call(node, layouts, found.atoms)
        if _tie_to_earlier_call(call, given):
            output = _again(call, found.flows)
        else:
            output = _follow(call, found)
        for tensor in node.outputs:
            known = output is not None and len(output) == _width(tensor.shape)
            reason = f"is made by {node.operation.name}"
            layouts[id(tensor)] = output if known else _fixed(found.atoms, tensor.shape, reason)
    for tensor in model.outputs:
        found.atoms.pin(layouts[id(tensor)], "is an output of the model")
    return found


def _call(node, layouts, atoms):
    args, kwargs = node.arguments.args, node.arguments.kwargs
    rest = keras.tree.flatten([args, {k: v for k, v in kwargs.items() if k != "training"}])
    return Call(
        node.operation,
        [layouts[id(tensor)] for tensor in node.input_tensors],
        [tuple(tensor.shape) for tensor in node.input_tensors],
        [tuple(tensor.shape) for tensor in node.outputs],
        [value for value in rest if not isinstance(value, keras.KerasTensor)],
        atoms,
    )


def _tie_to_earlier_call(call, given):
    """A layer that is called twice has one set of weights: both its inputs keep the same."""
    if not isinstance(call.operation, keras.Layer):
        return False
    earlier = given.setdefault(id(call.operation), call.inputs)
    if earlier is call.inputs:
        return False
    for before, now in zip(earlier, call.inputs, strict=False):
        if len(before) == len(now):
            call.atoms.join(before, now)
        else:
            for layout in (before, now):
                call.atoms.pin(layout, f"{call.operation.name} is called with different inputs")
    return True


def _again(call, flows):
    flow = flows.get(id(call.operation))
    if flow is None:
        _pin_inputs(call, "is called twice")
        return None
    if flow.makes:
        return flow.output
    again = flow_of(call)
    return again.output if isinstance(again, Flow) else None


def _follow(call, found):
    flow = flow_of(call)
    if isinstance(flow, str):
        _pin_inputs(call, flow)
        return None
    if isinstance(call.operation, keras.Layer):
        found.flows[id(call.operation)] = flow
        found.layers[id(call.operation)] = call.operation
    return flow.output


def _pin_inputs(call, reason):
    for layout in call.inputs:
        call.atoms.pin(layout, f"{call.operation.name} {reason}")


def _fixed(atoms, shape, reason):
    layout = atoms.make(_width(shape), None)
    atoms.pin(layout, reason)
    return layout


def _width(shape):
    """Size of the last axis, or 0 where there is none to speak of."""
    return shape[-1] if len(shape) > 1 and shape[-1] is not None else 0
