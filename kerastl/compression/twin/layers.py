"""Which layers of Keras 3 have an equal in tf_keras, and its arguments."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from kerastl.compression import island
from kerastl.compression.twin.equality import NoEqualError, asking_tf_keras

# The same arithmetic in both, compared by tests; a class that is not here runs as it is.
_EQUAL = {
    "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose",
    "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D",
    "Dense", "EinsumDense", "Embedding",
    "BatchNormalization", "LayerNormalization", "GroupNormalization", "UnitNormalization",
    "Rescaling", "Normalization", "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax",
    "Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract",
    "MaxPooling1D", "MaxPooling2D", "MaxPooling3D",
    "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D",
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
    "Flatten", "Reshape", "Permute", "RepeatVector", "Identity",
    "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "Cropping1D", "Cropping2D", "Cropping3D",
    "UpSampling1D", "UpSampling2D", "UpSampling3D",
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
    "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization",
}  # fmt: skip
_RENAMED = {("LeakyReLU", "negative_slope"): "alpha"}
# What tf_keras does anyway, or what stands in no signature.
_HARMLESS = {
    ("LayerNormalization", "rms_scaling"): False,
    ("ZeroPadding1D", "data_format"): "channels_last",
}
_OTHERWISE = {("BatchNormalization", "renorm")}  # in both, and trained by other formulas
_DTYPES = ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
# Keras 3 computes the moving variance from the biased one, and so does tf_keras if not fused.
_ADDED = {"BatchNormalization": {"fused": False}}


def translated(layer: keras.Layer, name: str) -> Any:
    """The tf_keras layer that computes what a Keras 3 layer computes.

    Args:
        layer: `keras.Layer`. A subclass of a Keras layer is not that layer.
        name: String, name of the new layer.

    Returns:
        Layer, not built.

    Raises:
        NoEqualError: If there is none, or an argument has no equal there.

    Example:
        >>> made = translated(keras.layers.Dense(2, activation="silu"), "head")
        >>> type(made).__module__.split(".")[0], made.units, made.activation.__name__
        ('tf_keras', 2, 'swish')
    """
    kind = type(layer).__name__
    if kind not in _EQUAL or type(layer) is not getattr(keras.layers, kind):
        raise NoEqualError(f"{type(layer).__module__}.{type(layer).__qualname__}")
    activation = spelled(getattr(layer, "activation", None))
    if activation is None:  # before `get_config`, which warns of a lambda
        raise NoEqualError(f"activation={layer.activation!r}")
    made = getattr(island.tf_keras().layers, kind)
    known = _arguments(made)
    defaults = _arguments(type(layer))
    config = {"dtype": _dtype(layer), **_ADDED.get(kind, {})}
    for key, value in layer.get_config().items():
        if key in ("name", "trainable", "dtype") or key.endswith("_initializer"):
            continue
        if value and (kind, key) in _OTHERWISE:
            raise NoEqualError(f"{key}={value!r}")
        there = _RENAMED.get((kind, key), key)
        if there is not None and there in known:
            config[there] = activation if key == "activation" else _value(key, value)
        elif value != _HARMLESS.get((kind, key), defaults.get(key)):
            raise NoEqualError(f"{key}={value!r}")
    with asking_tf_keras():
        return made(**config, name=name)


def _arguments(cls):
    """The arguments of a layer class and their defaults; those that `**kwargs` hands up, too."""
    found = {}
    for base in cls.__mro__:
        if base.__name__ == "Layer":
            break
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        found = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD} | found
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return found


def _dtype(layer):
    if layer.dtype_policy.name not in _DTYPES:
        raise NoEqualError(f"dtype={layer.dtype_policy.name!r}")
    return layer.dtype_policy.name


def _value(key, value):
    if key.endswith("_regularizer"):
        return _standard(value, keras.regularizers, island.tf_keras().regularizers)
    if key.endswith("_constraint"):
        return _standard(value, keras.constraints, island.tf_keras().constraints)
    return value


def _standard(value, ours, theirs):
    """A serialized regularizer or constraint in the spelling of tf_keras."""
    if value is None:
        return None
    name = value["class_name"] if isinstance(value, dict) else value
    if not isinstance(value, dict) or not (hasattr(ours, name) and hasattr(theirs, name)):
        raise NoEqualError(f"{name}")
    if value["module"] != ours.__name__.replace("._tf_keras.keras", ""):
        raise NoEqualError(f"{value['module']}.{name}")
    return {"class_name": name, "config": value["config"]}


# The same formula under the same name, read in Keras 3.15.1 and tf_keras 2.21.
_ALIKE = (
    "linear", "relu", "relu6", "elu", "selu", "softplus", "softsign", "tanh", "sigmoid",
    "exponential", "softmax", "gelu",
)  # fmt: skip
# tf_keras has hard_sigmoid as clip(0.2 x + 0.5), Keras 3 as relu6(x + 3) / 6; some it lacks.
_OWN = (
    "celu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu",
    "log_sigmoid", "log_softmax", "mish", "soft_shrink", "sparse_plus", "sparse_sigmoid",
    "sparsemax", "squareplus", "tanh_shrink",
)  # fmt: skip


def spelled(function: Callable[..., Any] | None) -> str | Callable[..., Any] | None:
    """The tf_keras activation that computes what a Keras 3 activation computes.

    Args:
        function: Callable, the `activation` of a Keras 3 layer, or None.

    Returns:
        A name that tf_keras knows; or a function of the same name, registered there as
        `kerastl>NAME`, that calls Keras 3's; or None for a function that Keras 3 does not name.

    Example:
        >>> spelled(keras.activations.silu), spelled(keras.activations.hard_silu).__name__
        ('swish', 'hard_silu')
        >>> spelled(lambda x: 2 * x) is None
        True
    """
    if function is None:
        return "linear"
    if function is keras.activations.silu:
        return "swish"
    for name in _ALIKE:
        if function is keras.activations.get(name):
            return name
    for name in _OWN:
        if function is keras.activations.get(name):
            return registered(name)
    return None


@functools.cache
def registered(name: str, **arguments: Any) -> Callable[..., Any]:
    """Keras 3's activation `name` as a function that tf_keras can save and load.

    Args:
        name: String, as `keras.activations.get` takes it.
        **arguments: Constants for its further arguments; they become part of its name.

    Example:
        >>> registered("gelu", approximate=True).__name__
        'gelu_approximate_True'
    """
    function = keras.activations.get(name)

    def activation(x):
        return function(x, **arguments)

    constants = [f"_{key}_{value}" for key, value in arguments.items()]
    activation.__name__ = activation.__qualname__ = "".join([name, *constants])
    tf_keras = island.tf_keras()
    return tf_keras.utils.register_keras_serializable("kerastl")(activation)
