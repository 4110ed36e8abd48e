"""What must hold for a tf_keras layer to stand for a Keras 3 one."""

import contextlib

import keras

from kerastl import _keras


class NoEqualError(Exception):
    """A layer, one of its arguments, or one of its calls has no equal in tf_keras."""


@contextlib.contextmanager
def asking_tf_keras():
    """What tf_keras refuses, by its own checks, has no equal there."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise NoEqualError(f"tf_keras says: {str(error).strip().splitlines()[0]}") from error


def require_plain_calls(calls, layer):
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


def require_masks_taken(node, layer):
    """If a mask comes in, both must be layers that say they support it."""
    if any(_keras.get_keras_mask(x) is not None for x in node.input_tensors):
        ours = getattr(node.operation, "supports_masking", False)
        if not (ours and layer.supports_masking):
            raise NoEqualError("a mask")


def require_same_shapes(node, outputs):
    """The outputs that tf_keras promises must be those that Keras 3 promised, as far as known."""
    shapes = [tuple(x.shape) for x in keras.tree.flatten(outputs)]
    promised = [tuple(x.shape) for x in node.outputs]
    alike = len(shapes) == len(promised) and all(map(_compatible, shapes, promised))
    if not alike:
        raise NoEqualError(f"output shapes {shapes} against {promised}")


def _compatible(one, other):
    sides = zip(one, other, strict=False)
    return len(one) == len(other) and all(None in pair or len(set(pair)) == 1 for pair in sides)
