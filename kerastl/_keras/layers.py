"""Private names of Keras's layers: what is in them, and what they do in training."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.src.backend import AutocastScope
from keras.src.layers.preprocessing.image_preprocessing.base_image_preprocessing_layer import (
    BaseImagePreprocessingLayer,
)

NORMALIZERS_WITH_STATISTICS = (keras.layers.BatchNormalization,)


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly inside `layer`. Keras gives only models a public `layers`."""
    return list(layer._layers)


def sublayers_without_inputs(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly inside `layer`, each once, the input layers of nested models left out."""
    unique = {id(child): child for child in layer._layers}
    return [c for c in unique.values() if not isinstance(c, keras.layers.InputLayer)]


def with_sublayers(layer: Any) -> Iterable[keras.Layer]:
    """`layer` and every layer inside it, of Keras or tf_keras. Neither has a public list."""
    return layer._flatten_layers()


def key_biases(model: keras.Model) -> list[keras.Variable]:
    """The biases of the keys of attention layers, whose gradient is zero.

    They add the same to what a query gives for each key, which a softmax does not see: they move by
    rounding alone, or not at all.
    """
    attention = keras.layers.MultiHeadAttention
    layers = [layer for layer in with_sublayers(model) if isinstance(layer, attention)]
    biases = [getattr(getattr(layer, "_key_dense", None), "bias", None) for layer in layers]
    return [bias for bias in biases if bias is not None]


def own_trainable_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Variables that `layer` itself created as trainable, whatever their flag is now."""
    return list(layer._trainable_variables)


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """All variables that `layer` itself holds: weights, statistics and seeds."""
    seeds = [generator.state for generator in layer._seed_generators]
    return [*layer._trainable_variables, *layer._non_trainable_variables, *seeds]


def own_weights(layer: keras.Layer) -> list[keras.Variable]:
    """The weights that `layer` itself holds, statistics included, seeds not."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def set_own_trainable(layer: keras.Layer, trainable: bool) -> None:
    """Set the flag of `layer` and of its own variables, leaving its sublayers as they are.

    The public setter recurses into every sublayer, and TensorFlow's tracker skips it altogether
    when the flag already has that value, so that `model.trainable = True` reaches no child.
    """
    layer._trainable = trainable
    for variable in layer._trainable_variables:
        variable.trainable = trainable


def kernel_of(layer: Any) -> keras.Variable:
    """The variable of a built linear layer or embedding that holds its kernel.

    The public `kernel` and `embeddings` are tensors where they do more than read it.
    """
    name = "_embeddings" if isinstance(layer, keras.layers.Embedding) else "_kernel"
    return getattr(layer, name) if hasattr(layer, name) else layer.kernel


def value_in_float32(variable: Any) -> Any:
    """The value of a float variable, also where a layer computes in half floats.

    Inside such a layer every read is rounded to half floats before anyone can cast it; Keras
    3.15.1 has no public way to read a variable as it is, but for a layer without autocast.
    """
    with AutocastScope(None):
        return keras.ops.cast(variable, "float32")


def untrack(model: keras.Model, layer: keras.Layer) -> None:
    """Take `layer`, an attribute of a functional `model`, out of what `model` holds.

    Keras 3.15.1 tracks what is assigned to a model beside its graph, and has no public way back.
    """
    model._tracker.untrack(layer)


@contextlib.contextmanager
def unlocked(model: keras.Model) -> Iterator[None]:
    """Let `model` hold other layers beside its graph, as a functional model may.

    `Model.quantize` of Keras 3.15.1 leaves its tracker locked, whatever it was before.
    """
    was_locked = model._tracker.locked
    model._tracker.unlock()
    try:
        yield
    finally:
        if was_locked:
            model._tracker.lock()


def reveal(container: keras.Layer) -> None:
    """Set a container's own flag to True: a parent set to False hides children that train."""
    container._trainable = True


def accepts_training(operation: keras.Operation) -> bool:
    """Whether `operation` is to be told if it runs in training or in inference mode."""
    return "training" in getattr(operation, "_call_context_args", {})


def takes_training(layer: keras.Layer) -> bool:
    """Whether the `call` of `layer` has an argument `training`."""
    return layer._call_has_training_arg


def keras_module(operation: keras.Operation) -> str | None:
    """Where in Keras the class of `operation` is written, as "layers.core.dense"; None elsewhere.

    Keras 3.15.1 writes its classes below `keras.src`, and no public name tells Keras's own class
    from one of the same name.
    """
    below, name = "keras.src.", type(operation).__module__
    return name.removeprefix(below) if name.startswith(below) else None


def is_augmentation(layer: keras.Operation) -> bool:
    """Whether `layer` changes pictures at random before the network sees them.

    Such a layer is input, not network: freezing what stands behind it must not switch it off.
    """
    random = type(layer).__name__.startswith(("Random", "AugMix", "RandAugment", "MixUp", "CutMix"))
    return random and isinstance(layer, BaseImagePreprocessingLayer)


def draws_at_random(layer: keras.Layer) -> bool:
    """Whether `layer` itself holds a generator of random seeds, as all random Keras layers do."""
    return bool(layer._seed_generators)


@contextlib.contextmanager
def inference_mode(layers: Iterable[keras.Layer]) -> Iterator[None]:
    """Run `layers` with `training=False` while this lasts, however their parents call them.

    A composite layer (a whole ViT encoder, say) passes its own `training` to what it holds.
    `Operation.__call__` looks `self.call` up on the instance, so an instance attribute decides.
    """
    replaced = []
    for layer in layers:
        if layer._call_has_training_arg:
            now = layer.__dict__.get("call")
            if type(now) is not _InferenceCall:
                now = layer.__dict__["call"] = _InferenceCall(layer.call, now)
            now.depth += 1
            replaced.append(layer)
    try:
        yield
    finally:
        for layer in replaced:
            now = layer.__dict__["call"]
            now.depth -= 1
            if not now.depth and now.before is None:
                del layer.__dict__["call"]
            elif not now.depth:
                layer.__dict__["call"] = now.before


class _InferenceCall:
    """A layer's `call` in inference mode, for as long as `depth` blocks ask for it.

    Replicas of a distribution strategy enter and leave such blocks in threads of their own.
    """

    def __init__(self, call, before):
        self._call, self.before, self.depth = call, before, 0

    def __call__(self, *args, **kwargs):
        return self._call(*args, **{**kwargs, "training": False})


@contextlib.contextmanager
def computing_in_float32(model: Any) -> Iterator[None]:
    """Have every layer of `model` compute in float32 while this lasts, whatever its policy.

    The public setter of `dtype_policy` would write into a map of policies that layers may share,
    and no public policy computes in more digits than its weights have. Layers that `quantize`
    changed stay as they are.
    """
    changed = [(layer, layer._dtype_policy) for layer in of_other_floats(model)]
    try:
        for layer, _ in changed:
            policy = keras.DTypePolicy("float32")
            policy._variable_dtype = layer.variable_dtype  # weights of another are cast when used
            layer._dtype_policy = policy
        yield
    finally:
        for layer, policy in changed:
            layer._dtype_policy = policy


def of_other_floats(model: Any) -> list[keras.Layer]:
    """The layers in `model` that compute in floats other than float32, of Keras alone."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.Layer)
        and layer.compute_dtype in ("float16", "bfloat16", "float64")
        and getattr(layer, "quantization_mode", None) is None
    ]


def forget_losses(model: keras.Model) -> None:
    """Drop the losses that layers added in the last call, as calling `model` itself would."""
    model._clear_losses()


def losses_of_call(layer: keras.Layer) -> list[Any]:
    """What the last call of `layer` added by `add_loss`, the terms of its weights left out.

    The public `losses` mixes both.
    """
    return [loss for one in layer._flatten_layers() for loss in one._get_own_losses()]
