"""Which layers run in inference mode while the others train, and how one layer is called so."""

from kerastl import _keras
from kerastl.freezing.batch_norm import has_fixed_statistics
from kerastl.freezing.flags import is_frozen
from kerastl.groups import leaf_layers


def is_inert(layer):
    """Whether `layer` runs in inference mode inside `FineTuner.fit`.

    It does when nothing in it trains, or when it is a batch normalization whose statistics are
    held. Random augmentation is never inert: it belongs to the input.
    """
    if _keras.is_augmentation(layer):
        return False
    return is_frozen(layer) or has_fixed_statistics(layer)


def inert_inside(layers):
    """The inert leaves of those composite `layers` that are not inert as a whole."""
    mixed = [layer for layer in layers if _keras.sublayers(layer) and not is_inert(layer)]
    leaves = [leaf for layer in mixed for leaf in leaf_layers(layer)]
    return [leaf for leaf in leaves if not _keras.sublayers(leaf) and is_inert(leaf)]


def with_own_training(operation):
    """`operation`, told to train or to infer by whether it is inert."""
    if not _keras.accepts_training(operation):
        return operation
    training = not is_inert(operation)

    def call(*args, **kwargs):
        return operation(*args, **{**kwargs, "training": training})

    return call


def infer(operation):
    """`operation` in inference mode, whatever `training` its call recorded."""
    if not _keras.accepts_training(operation):
        return operation
    return lambda *args, **kwargs: operation(*args, **{**kwargs, "training": False})
