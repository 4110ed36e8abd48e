"""Which variable of a tf_keras layer is which of its Keras 3 original, by name."""

import keras

from kerastl.compression.twin.equality import NoEqualError

_DEPTHWISE = {"kernel": "depthwise_kernel"}
_RENAMED = {"DepthwiseConv1D": _DEPTHWISE, "DepthwiseConv2D": _DEPTHWISE}


def paired(operation, layer):
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
    ours = {renamed.get(v.name, v.name): v for v in operation.weights}
    theirs = {short_name(v): v for v in layer.weights}
    if ours.keys() != theirs.keys() or len(ours) != len(operation.weights):
        raise NoEqualError(f"weights {sorted(ours)} against {sorted(theirs)}")
    pairs = [(ours[name], theirs[name]) for name in ours]
    if any(tuple(a.shape) != tuple(b.shape) for a, b in pairs):
        raise NoEqualError("weights of other shapes")
    return pairs


def short_name(variable):
    """The name of a tf.Variable without the layers around it: `block/conv/kernel:0` is `kernel`."""
    return variable.name.rsplit("/", 1)[-1].split(":")[0]


def copy(pairs):
    """Bring the values of the Keras 3 variables into the tf_keras ones."""
    for ours, theirs in pairs:
        theirs.assign(keras.ops.convert_to_tensor(ours, dtype=theirs.dtype.base_dtype.name))


def copy_back(pairs):
    """Bring the values of the tf_keras variables into the Keras 3 ones."""
    for ours, theirs in pairs:
        ours.assign(theirs.read_value())
