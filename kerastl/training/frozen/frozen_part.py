"""The frozen part of a network as a compiled function, and whether its results may be kept."""

import hashlib
import math
import re
import time
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl import _keras
from kerastl._base.checks import listed
from kerastl.data.passes import hash_of_arrays
from kerastl.training.frozen.frontier import Frontier


class FrozenPart:
    """Computes `Features` at a frontier from batches of inputs of one structure.

    Args:
        frontier: `Frontier`.
        spec: Structure of `tf.TensorSpec` of a batch of inputs.
        longest: Int, how long axes of differing length are at most; None where there are none.

    Attributes:
        specs: `Features` of `tf.TensorSpec`: what it computes.
        reason: Why its results cannot be kept by rows, in one sentence, or None.
        by_rows: Boolean, whether it was seen that examples do not depend on their batch.
        digest: Hash of what it computes, weights left out.
    """

    def __init__(self, frontier: Frontier, spec: Any, longest: int | None = None) -> None:
        self._frontier, self._longest = frontier, longest
        spec = tf.nest.map_structure(_any_number, spec)
        started = time.perf_counter()
        function = tf.function(frontier.compute, input_signature=[spec], autograph=False)
        concrete = function.get_concrete_function()
        clock = frontier.model.fit_state.clock
        built = time.perf_counter() - started
        # `why_not_by_rows` begins with a few rows, so that only the call after it is alike.
        self._function = clock.timed(function, built=built, ordinary=1)
        self.specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, concrete.structured_outputs)
        graph_def = concrete.graph.as_graph_def()
        self.digest = _digest(graph_def, concrete.captured_inputs)
        self.reason = self._why_not(graph_def)
        self.by_rows = False

    def __call__(self, inputs: Any) -> Any:
        """List of arrays: the features of a batch, then the masks of those that have one."""
        return [tensor.numpy() for tensor in tf.nest.flatten(self._function(inputs))]

    def why_not_by_rows(self, inputs: Any) -> str | None:
        """Why the features of an example depend on the batch that it is in, or None.

        Args:
            inputs: A batch of inputs. Its second half is computed alone and must come out alike.
        """
        whole, count = self(inputs), len(tf.nest.flatten(inputs)[0])
        half = count // 2
        lengths = [array.shape[:1] for array in whole]
        if any(length != (count,) for length in lengths):
            return f"{count} examples give frozen features with first axes {listed(lengths)}"
        if not half:
            return None
        alone = self(tf.nest.map_structure(lambda part: part[half:], inputs))
        self.by_rows = all(_alike(a, b[half:]) for a, b in zip(alone, whole, strict=True))
        if self.by_rows:
            return None
        return "the frozen layers mix the examples of a batch"

    def _why_not(self, graph_def):
        if self._frontier.lower.losses:
            return "a frozen layer adds a loss"
        if impure := impure_operation(graph_def):
            return f"the frozen layers run {impure}, which may give something else each time"
        unsized = [s for s in tf.nest.flatten(self.specs) if None in s.shape[1:]]
        if unsized and self._longest is None:
            shape = tuple(unsized[0].shape)
            return f"examples give frozen features of different sizes, {shape}; pad them alike"
        return None


def weights_hash(frontier: Frontier) -> str:
    """Hash of the values of all weights below `frontier`, as hexadecimal digits."""
    layers = frontier.static_layers
    adapters = [one for layer in layers for one in _keras.owners_within(layer)]
    weights = [weight for layer in (*layers, *adapters) for weight in layer.weights]
    return hash_of_arrays([np.atleast_1d(weight.numpy()) for weight in weights])


def _any_number(spec):
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)


def _digest(graph_def, captured):
    """Hash of a graph and of the constants handed to it; what it captures else are weights."""
    constants = [tensor.numpy() for tensor in captured if tensor.dtype != tf.resource]
    made = hashlib.blake2b(digest_size=16)
    made.update(digest(graph_def).encode())
    for constant in constants:
        made.update(repr((constant.shape, str(constant.dtype))).encode() + constant.tobytes())
    return made.hexdigest()


def _alike(one, other):
    """Equal up to how sums were ordered; a thousandth of the largest value is far above that."""
    if one.shape != other.shape:
        return False
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    scale = float(np.max(np.abs(other), initial=0.0))
    if not math.isfinite(scale):
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(np.max(np.abs(one - other), initial=0.0) <= 1e-3 * scale)


# Operations that draw, remember or leave the graph: their results are no function of the input.
# A lookup table has contents that the graph does not tell.
IMPURE = re.compile(
    "Random|Multinomial|TruncatedNormal|StatefulUniform|StatefulStandardNormal|StatelessShuffle"
    "|^Rng|^Assign|^Resource(Scatter|Apply|StridedSliceAssign)|PyFunc|LookupTable"
)
# Attributes that hold names, which differ between processes, or nothing that is computed.
NAMES = ("container", "shared_name", "config_proto", "executor_type")


def impure_operation(graph_def: Any) -> str | None:
    """Name and type of an operation whose result is not a function of its inputs, or None."""
    inner = [node for function in graph_def.library.function for node in function.node_def]
    for node in [*graph_def.node, *inner]:
        if IMPURE.search(node.op):
            return f"{node.name} ({node.op})"
    return None


def digest(graph_def: Any) -> str:
    """Hash of what a graph computes, the same for every name that its layers may have.

    Args:
        graph_def: `GraphDef` with its library of functions.

    Returns:
        Hexadecimal digits.
    """
    functions = {function.signature.name: function for function in graph_def.library.function}
    return _digest_of(graph_def.node, (), functions).hexdigest()


def _digest_of(nodes, arguments, functions):
    made = hashlib.blake2b(digest_size=16)
    number = {name: i for i, name in enumerate([*arguments, *(node.name for node in nodes)])}
    for node in nodes:
        read = [_without_name(text, number) for text in node.input]
        made.update(repr((node.op, read)).encode())
        for key in sorted(node.attr):
            if not key.startswith("_") and key not in NAMES:
                made.update(key.encode() + _attribute(node.attr[key], functions))
    return made


def _without_name(text, number):
    """An input such as `^name` or `name:output:0`, with a number for the name."""
    name, *port = text.lstrip("^").split(":")
    return text.startswith("^"), number.get(name, name), port


def _attribute(value, functions):
    called = [value.func.name] if value.HasField("func") else [f.name for f in value.list.func]
    if not called:
        return value.SerializeToString(deterministic=True)
    parts = []
    for function in (functions[name] for name in called if name in functions):
        arguments = [argument.name for argument in function.signature.input_arg]
        parts.append(_digest_of(function.node_def, arguments, functions).digest())
    return b"".join(parts)
