"""How a graph runs: inert layers infer while the others train, and pairs of layers are one step.

The private steps of one such run are composed here and nowhere else; who runs a part of a graph
composes it of `inert_inside`, `with_folding`, `infer` and `training_operations`.
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from kerastl import _keras
from kerastl._base.types import TensorLike
from kerastl.graph.adapters import bank_of
from kerastl.graph.flags import has_fixed_statistics, is_frozen, trains
from kerastl.graph.index import GraphIndex
from kerastl.graph.leaves import leaf_layers

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def run_training(
    model: keras.Model, inputs: TensorLike, mask: Any, part: keras.Model | None = None
) -> Any:
    """Run the graph of `model` in training mode, inert layers in inference mode.

    Args:
        model: Flat functional model.
        inputs: Its inputs, which are judged as a call of it judges them.
        mask: Masks of the inputs, or None.
        part: As in `run_evaluation`.
    """
    with _judged(model, inputs), _keras.inference_mode(inert_inside(model.layers)):
        return _keras.run_graph(part or model, inputs, mask, training_operations(model))


def run_evaluation(model: keras.Model, inputs: TensorLike, part: keras.Model | None = None) -> Any:
    """Run the graph of `model` in inference mode, in the steps of its training.

    Args:
        model: Flat functional model.
        inputs: Its inputs, which are judged as a call of it judges them.
        part: Model of the same inputs and of some of its nodes, to be run in its place, or None.
    """
    with _judged(model, inputs):
        return _keras.run_graph(part or model, inputs, None, with_folding(model, infer))


@contextlib.contextmanager
def _judged(model, inputs):
    """Refuse what a call of `model` refuses, and name the input that a layer stumbles over.

    Keras lets a last axis of 1 pass where the other has another number.
    """
    _keras.check_inputs(model, inputs)
    try:
        yield
    except ValueError as error:
        specs: Any = model.input_spec or ()
        by_name = isinstance(inputs, dict)
        given = [inputs.get(s.name) for s in specs] if by_name else keras.tree.flatten(inputs)
        for spec, part in zip(specs, given, strict=False):
            shape: Any = tuple(getattr(part, "shape", None) or ())
            if len(shape) == len(spec.shape) > 1 and _differ(shape[-1], spec.shape[-1]):
                raise ValueError(
                    f"The input {spec.name!r} of {model.name!r} has another shape than its Input, "
                    "and one of the layers behind it does not take it: expected "
                    f"shape={spec.shape}, found shape={shape}"
                ) from error
        raise


def _differ(one, other):
    return None not in (one, other) and one != other


def training_operations(model: keras.Model) -> Callable[..., Any]:
    """What runs each operation of a graph of `model` in training; kept where it is `watched`."""
    operation_fn = _with_adapters(model, with_folding(model, with_own_training))
    wanted, seen = getattr(_WATCH, "now", None) or ((), {})
    if not wanted:
        return operation_fn

    def run(operation):
        function = operation_fn(operation)
        if operation.name not in wanted:
            return function

        def kept(*args, **kwargs):
            seen[operation.name] = function(*args, **kwargs)
            return seen[operation.name]

        return kept

    return run


def _with_adapters(model, operation_fn):
    """`operation_fn`, which tells adapters that they train."""
    if bank_of(model) is None:
        return operation_fn

    def run(operation):
        function = operation_fn(operation)

        def training(*args, **kwargs):
            with _keras.adapters_training(True):
                return function(*args, **kwargs)

        return training

    return run


@contextlib.contextmanager
def watched(names: Collection[str]) -> Iterator[dict[str, Any]]:
    """Keep what operations of these names give in a training run of a graph inside the block.

    Of this thread alone: a distribution strategy runs each replica in one of its own.

    Returns:
        Dict from name to output, filled as the operations run.
    """
    before, seen = getattr(_WATCH, "now", None), {}
    _WATCH.now = frozenset(names), seen
    try:
        yield seen
    finally:
        _WATCH.now = before


_WATCH = threading.local()


def is_inert(layer: keras.Operation) -> bool:
    """Whether `layer` runs in inference mode inside `FineTuner.fit`.

    It does when nothing in it trains, or when it is a batch normalization whose statistics are
    held. Random augmentation is never inert: it belongs to the input.
    """
    if _keras.is_augmentation(layer):
        return False
    return is_frozen(layer) or has_fixed_statistics(layer)


def inert_inside(layers: Iterable[keras.Layer]) -> list[keras.Layer]:
    """The inert leaves of those composite `layers` that are not inert as a whole."""
    mixed = [layer for layer in layers if _keras.sublayers(layer) and not is_inert(layer)]
    leaves = [leaf for layer in mixed for leaf in leaf_layers(layer)]
    return [leaf for leaf in leaves if not _keras.sublayers(leaf) and is_inert(leaf)]


def with_own_training(operation: keras.Operation) -> Callable[..., Any]:
    """`operation`, told to train or to infer by whether it is inert."""
    if not _keras.accepts_training(operation):
        return operation
    training = not is_inert(operation)

    def call(*args, **kwargs):
        return operation(*args, **{**kwargs, "training": training})

    return call


def infer(operation: keras.Operation) -> Callable[..., Any]:
    """`operation` in inference mode, whatever `training` its call recorded."""
    if not _keras.accepts_training(operation):
        return operation
    return lambda *args, **kwargs: operation(*args, **{**kwargs, "training": False})


def with_folding(model: keras.Model, operation_fn: Callable[..., Any]) -> Callable[..., Any]:
    """`operation_fn` for the graph of `model`, in which each of `folded_pairs` is one step.

    With s = gamma / sqrt(variance + epsilon) the two compute `conv(x, s * kernel) + s * (bias -
    mean) + beta`, and so do their gradients. That saves two passes over the tensor in between and
    its memory, and differs from the layers one by one as float32 does when sums are ordered
    otherwise. The layers and their weights stay as they are.

    Args:
        model: Flat functional model, with the flags of the present.
        operation_fn: As in `_keras.run_graph`, which the function returned also is for.

    References:
        Jacob et al., 2018, equation 14, https://arxiv.org/abs/1712.05877
    """
    norms = {id(conv.operation): norm.operation for conv, norm in folded_pairs(model)}
    absorbed = set(map(id, norms.values()))

    def run(operation):
        if id(operation) in absorbed:
            return lambda inputs, **_: inputs
        if id(operation) in norms:
            return lambda inputs, **_: _folded(operation, norms[id(operation)], inputs)
        return operation_fn(operation)

    return run


def folded_pairs(model: keras.Model) -> list[tuple[Any, Any]]:
    """The `(node of a convolution, node of the batch normalization)` that can become one step.

    Only the batch normalization reads the convolution, and it infers. One whose scale or offset
    trains after a frozen convolution is left alone: a frontier of frozen features parts the two.
    """
    index = GraphIndex(model)
    pairs = [(node, index.follower(node)) for node in index.nodes]
    return [(node, after) for node, after in pairs if after is not None and _folds(node, after)]


def _folds(node, after):
    conv, norm = node.operation, after.operation
    if type(conv) not in _CONVOLUTIONS or type(norm) is not keras.layers.BatchNormalization:
        return False
    policies = {conv.dtype_policy.name, norm.dtype_policy.name}
    return (
        is_inert(norm)
        and not _keras.owners_on(conv)
        and not _keras.owners_on(norm)
        and (trains(conv) or not trains(norm))
        and conv.activation is keras.activations.linear
        and conv.data_format == "channels_last"
        and norm.axis in (-1, 3)
        and policies == {"float32"}
        and conv.activity_regularizer is None
        and norm.activity_regularizer is None
        and after.arguments.kwargs.get("mask") is None
    )


def _folded(conv, norm, inputs):
    scale = keras.ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma
    offset = -norm.moving_mean * scale
    if norm.center:
        offset = offset + norm.beta
    if conv.use_bias:
        offset = offset + conv.bias * scale
    is_depthwise = isinstance(conv, keras.layers.DepthwiseConv2D)
    kernel = keras.ops.convert_to_tensor(conv.kernel)
    # A depthwise kernel is (height, width, channels, multiplier), channel by channel.
    kernel = kernel * (keras.ops.reshape(scale, kernel.shape[2:]) if is_depthwise else scale)
    convolve = keras.ops.depthwise_conv if is_depthwise else keras.ops.conv
    outputs = convolve(
        keras.ops.cast(inputs, "float32"),
        kernel,
        strides=tuple(conv.strides),
        padding=conv.padding,
        data_format=conv.data_format,
        dilation_rate=tuple(conv.dilation_rate),
    )
    outputs = tf.nn.bias_add(outputs, offset)
    if conv.supports_masking:
        _keras.set_keras_mask(outputs, _keras.get_keras_mask(inputs))
    return outputs
