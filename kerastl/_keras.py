"""Every private Keras name that floors 2 and up use, each with its reason and version.

All were read in Keras 3.15.1. Optimizer internals are met in `optimizers/`, graph internals in
`groups/`, each in one small file of its own.
"""

import contextlib

import keras
from keras.src.layers.preprocessing.image_preprocessing.base_image_preprocessing_layer import (
    BaseImagePreprocessingLayer,
)
from keras.src.losses.loss import unscale_loss_for_distribution  # noqa: F401 (re-exported)
from keras.src.utils.rng_utils import get_random_seed

NORMALIZERS_WITH_STATISTICS = (keras.layers.BatchNormalization,)


def sublayers(layer):
    """The layers directly inside `layer`. Keras gives only models a public `layers`."""
    return list(layer._layers)


def own_trainable_variables(layer):
    """Variables that `layer` itself created as trainable, whatever their flag is now."""
    return list(layer._trainable_variables)


def own_variables(layer):
    """All variables that `layer` itself holds: weights, statistics and seeds."""
    seeds = [generator.state for generator in layer._seed_generators]
    return [*layer._trainable_variables, *layer._non_trainable_variables, *seeds]


def set_own_trainable(layer, trainable):
    """Set the flag of `layer` and of its own variables, leaving its sublayers as they are.

    The public setter recurses into every sublayer, and TensorFlow's tracker skips it altogether
    when the flag already has that value, so that `model.trainable = True` reaches no child.
    """
    layer._trainable = trainable
    for variable in layer._trainable_variables:
        variable.trainable = trainable


def reveal(container):
    """Set a container's own flag to True: a parent set to False hides children that train."""
    container._trainable = True


def own_weights(layer):
    """The weights that `layer` itself holds, statistics included, seeds not."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def accepts_training(operation):
    """Whether `operation` is to be told if it runs in training or in inference mode."""
    return "training" in getattr(operation, "_call_context_args", {})


def run_graph(model, inputs, mask, operation_fn):
    """Run a functional model's graph on `inputs`, each node through `operation_fn(operation)`.

    `Functional.call` offers no way to give each layer its own `training`; it overwrites the value
    recorded in the graph by the container's (keras/src/models/functional.py, `operation_fn`).
    """
    inputs = model._standardize_inputs(inputs)
    if mask is not None:
        for tensor, tensor_mask in zip(inputs, keras.tree.flatten(mask), strict=True):
            if tensor_mask is not None:
                tensor._keras_mask = tensor_mask
    outputs = model._run_through_graph(inputs, operation_fn=operation_fn)
    single = isinstance(outputs, (list, tuple)) and len(outputs) == 1
    return outputs[0] if single else outputs


@contextlib.contextmanager
def inference_mode(layers):
    """Run `layers` with `training=False` while this lasts, however their parents call them.

    A composite layer (a whole ViT encoder, say) passes its own `training` to what it holds.
    `Operation.__call__` looks `self.call` up on the instance, so an instance attribute decides.
    """
    replaced = []
    for layer in layers:
        if "call" in layer.__dict__ or not layer._call_has_training_arg:
            continue
        layer.__dict__["call"] = _always_inference(layer.call)
        replaced.append(layer)
    try:
        yield
    finally:
        for layer in replaced:
            del layer.__dict__["call"]


def _always_inference(call):
    def inference_call(*args, **kwargs):
        return call(*args, **{**kwargs, "training": False})

    return inference_call


def is_augmentation(layer):
    """Whether `layer` changes pictures at random before the network sees them.

    Such a layer is input, not network: freezing what stands behind it must not switch it off.
    """
    random = type(layer).__name__.startswith(("Random", "AugMix", "RandAugment", "MixUp", "CutMix"))
    return random and isinstance(layer, BaseImagePreprocessingLayer)


def remake_train_function(model):
    """Have the next step traced anew, if `model` has been compiled and traced before.

    Which variables train is fixed when the step is traced; a later change of `trainable` has no
    effect until then.
    """
    if getattr(model, "compiled", False) and getattr(model, "train_function", None) is not None:
        model.make_train_function(force=True)


def unknown_to_optimizer(model, variables):
    """Those of `variables` for which the built optimizer of `model` holds no slots."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not optimizer.built:
        return []
    known = optimizer._trainable_variables_indices
    return [v for v in variables if optimizer._var_key(v) not in known]


@contextlib.contextmanager
def without_finalizing(optimizer):
    """Keep `fit` from overwriting weights by their moving averages while this lasts.

    Keras does so at the end of each `fit`; one training that consists of several has one end.
    """
    vars(optimizer)["finalize_variable_values"] = lambda variables: None
    try:
        yield
    finally:
        del vars(optimizer)["finalize_variable_values"]


def take_initial_epoch(model):
    """The epoch at which a callback has told `fit` to begin, or None; `fit` then forgets it."""
    epoch, model._initial_epoch = model._initial_epoch, None
    return epoch


def build_compiled(model, batch):
    """Make the state of the compiled loss and metrics from one batch `(x, y, ...)` of `fit`."""
    model._symbolic_build(data_batch=batch)


def random_seed():
    """The seed given to `keras.utils.set_random_seed`, or None; Keras has a setter only."""
    return get_random_seed()
