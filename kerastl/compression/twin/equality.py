"""What must hold for a tf_keras layer to stand for a Keras 3 one."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import keras

from kerastl import _keras
from kerastl._base.errors import cause
from kerastl.compression import island


class NoEqualError(Exception):
    """A layer, one of its arguments, or one of its calls has no equal in tf_keras."""


@contextlib.contextmanager
def asking_tf_keras() -> Iterator[None]:
    """What tf_keras refuses, by its own checks, has no equal there."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise NoEqualError(f"tf_keras says: {cause(error)}") from error


def require_plain_calls(calls: Iterable[Any], layer: Any) -> None:
    """Each call must hand over one tensor, or one list of tensors, and nothing else.

    A mask may travel along with a tensor if both layers take it; one that is named in the call
    is more than tf_keras can be told.
    """
    for node in calls:
        given = node.arguments.args[0] if len(node.arguments.args) == 1 else None
        tensors = given if isinstance(given, (list, tuple)) else [given]
        if not all(isinstance(x, keras.KerasTensor) for x in tensors):
            raise NoEqualError("a call with more than tensors in one list")
        named = {k: v for k, v in node.arguments.kwargs.items() if k != "training"}
        if any(value is not None for value in named.values()):
            raise NoEqualError(f"a call with {', '.join(named)}")
        require_masks_taken(node, layer)


def require_masks_taken(node: Any, layer: Any) -> None:
    """If a mask comes in, both must be layers that say they support it."""
    if any(_keras.get_keras_mask(x) is not None for x in node.input_tensors):
        ours = getattr(node.operation, "supports_masking", False)
        if not (ours and layer.supports_masking):
            raise NoEqualError("a mask")


def require_same_shapes(node: Any, outputs: Any) -> None:
    """The outputs that tf_keras promises must be those that Keras 3 promised, as far as known."""
    shapes = [tuple(x.shape) for x in keras.tree.flatten(outputs)]
    promised = [tuple(x.shape) for x in node.outputs]
    alike = len(shapes) == len(promised) and all(map(_compatible, shapes, promised))
    if not alike:
        raise NoEqualError(f"output shapes {shapes} against {promised}")


def _compatible(one, other):
    sides = zip(one, other, strict=False)
    return len(one) == len(other) and all(None in pair or len(set(pair)) == 1 for pair in sides)


def carry(
    layer: keras.Layer,
    twin: Any,
    pairs: Iterable[tuple[keras.Variable, Any]],
    training: Collection[Any],
) -> None:
    """Give the weights of a tf_keras layer the flags of its Keras 3 original.

    Args:
        layer: Keras 3 layer.
        twin: tf_keras layer, built.
        pairs: Their variables, `(Keras 3, tf_keras)`.
        training: Set of ids of the Keras 3 variables that the model trains.
    """
    twin.trainable = layer.trainable
    could = {id(variable) for variable in _keras.own_trainable_variables(layer)}
    held = {id(b) for a, b in pairs if id(a) in could and id(a) not in training}
    if layer.trainable and held:
        rest = [v for v in twin.trainable_weights if id(v) not in held]
        set_training(twin, twin.weights, rest)


def carry_wrapped(operation: keras.Operation, twin: Any, training: Collection[Any]) -> None:
    """The same for a wrapped operation, whose variables are those of the Keras 3 layer."""
    twin.trainable = getattr(operation, "trainable", True)
    variables = getattr(operation, "weights", ())
    chosen = [v.value for v in variables if id(v) in training]
    set_training(twin, [v.value for v in variables], chosen)


def set_training(twin: Any, weights: Sequence[Any], training: Collection[Any]) -> None:
    """Have of the `weights` of a tf_keras layer those train that are in `training`."""
    chosen = {id(variable) for variable in training}
    island.set_own_weights(
        twin,
        [v for v in weights if id(v) in chosen],
        [v for v in weights if id(v) not in chosen],
    )


_DEPTHWISE = {"kernel": "depthwise_kernel"}
_RENAMED = {"DepthwiseConv1D": _DEPTHWISE, "DepthwiseConv2D": _DEPTHWISE}


def paired(operation: keras.Operation, layer: Any) -> list[tuple[keras.Variable, Any]]:
    """Pairs `(Keras 3 variable, tf_keras variable)` of a layer and its equal.

    Returns:
        List of pairs.

    Raises:
        NoEqualError: If one of the two has a weight that the other has not, or of another shape,
            such as LoRA factors.
    """
    if not isinstance(operation, keras.Layer):
        return []
    renamed = _RENAMED.get(type(operation).__name__, {})
    ours: dict[Any, keras.Variable] = {renamed.get(v.name, v.name): v for v in operation.weights}
    theirs = {short_name(v): v for v in layer.weights}
    if ours.keys() != theirs.keys() or len(ours) != len(operation.weights):
        raise NoEqualError(f"weights {sorted(ours)} against {sorted(theirs)}")
    pairs = [(ours[name], theirs[name]) for name in ours]
    if any(tuple(a.shape) != tuple(b.shape) for a, b in pairs):
        raise NoEqualError("weights of other shapes")
    return pairs


def short_name(variable: Any) -> str:
    """The name of a tf.Variable without the layers around it: `block/conv/kernel:0` is `kernel`."""
    return variable.name.rsplit("/", 1)[-1].split(":")[0]


def copy(pairs: Iterable[tuple[keras.Variable, Any]]) -> None:
    """Bring the values of the Keras 3 variables into the tf_keras ones."""
    for ours, theirs in pairs:
        theirs.assign(keras.ops.convert_to_tensor(ours, dtype=theirs.dtype.base_dtype.name))


def copy_back(pairs: Iterable[tuple[keras.Variable, Any]]) -> None:
    """Bring the values of the tf_keras variables into the Keras 3 ones."""
    for ours, theirs in pairs:
        ours.assign(theirs.read_value())
