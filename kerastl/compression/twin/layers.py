"""Which layers of Keras 3 have an equal in tf_keras, and its arguments."""

import inspect

import keras

from kerastl.compression import island
from kerastl.compression.twin.activations import spelled
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


def translated(layer, name):
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
        if there in known:
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
