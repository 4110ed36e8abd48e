"""What a traced function does, read from its graph: its hash, and what makes it unrepeatable."""

import hashlib
import re

# Operations that draw, remember or leave the graph: their results are no function of the input.
# A lookup table has contents that the graph does not tell.
IMPURE = re.compile(
    "Random|Multinomial|TruncatedNormal|StatefulUniform|StatefulStandardNormal|StatelessShuffle"
    "|^Rng|^Assign|^Resource(Scatter|Apply|StridedSliceAssign)|PyFunc|LookupTable"
)
# Attributes that hold names, which differ between processes, or nothing that is computed.
NAMES = ("container", "shared_name", "config_proto", "executor_type")


def impure_operation(graph_def):
    """Name and type of an operation whose result is not a function of its inputs, or None."""
    inner = [node for function in graph_def.library.function for node in function.node_def]
    for node in [*graph_def.node, *inner]:
        if IMPURE.search(node.op):
            return f"{node.name} ({node.op})"
    return None


def digest(graph_def):
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
