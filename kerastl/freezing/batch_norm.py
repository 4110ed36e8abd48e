"""Batch normalization: its affine part and its statistics are separate choices."""

from kerastl import _checks, _keras
from kerastl.freezing.change import Change
from kerastl.freezing.flags import count_trainable, count_weights, with_leaves
from kerastl.groups import flat_layers, select_layers

BATCH_NORM_POLICIES = ("inference", "frozen", "train")


def freeze_batch_norm(model, where=None, *, affine=True, statistics=True):
    """Hold batch normalizations still: their scale and offset, their statistics, or both.

    Args:
        model: `keras.Model`.
        where: Which layers to look in, as in `freeze`. None means the whole model.
        affine: Boolean, whether `gamma` and `beta` stop training.
        statistics: Boolean, whether the moving mean and variance stand still and are used in
            training too (inference mode).

    Returns:
        `Change`: trainable weights before and after.

    Raises:
        ValueError: If there is no batch normalization there, or for `affine=False,
            statistics=True` on a model that is not a `FineTuner`: Keras ties both to one flag.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
        >>> print(freeze_batch_norm(model))
        freeze_batch_norm 1 layers: trainable weights 8 -> 0 of 16
    """
    if statistics and not affine:
        batch_norm_policy(model, "inference")
    layers = flat_layers(model) if where is None else select_layers(model, where)
    norms = [leaf for leaf in with_leaves(layers) if is_batch_norm(leaf)]
    if not norms:
        raise ValueError(
            f"`where` must hold a BatchNormalization layer. {model.name!r} has none there. "
            f"Received: where={where!r}"
        )
    before = count_trainable(model)
    for norm in norms:
        fix_statistics(norm, statistics)
        if affine and statistics:
            _keras.set_own_trainable(norm, False)
        elif affine:
            for variable in _keras.own_trainable_variables(norm):
                variable.trainable = False
    _keras.remake_train_function(model)
    after = count_trainable(model)
    return Change("freeze_batch_norm", len(norms), before, after, count_weights(model))


def fix_statistics(norm, fixed):
    """Mark a batch normalization to run in inference mode inside a `FineTuner`, trained or not."""
    norm._kerastl_fixed_statistics = bool(fixed)


def has_fixed_statistics(layer):
    """Whether `layer` is a batch normalization marked by `fix_statistics`."""
    return getattr(layer, "_kerastl_fixed_statistics", False)


def is_batch_norm(layer):
    return isinstance(layer, _keras.NORMALIZERS_WITH_STATISTICS)


def batch_norm_policy(model, batch_norm):
    honours = getattr(model, "honours_fixed_statistics", False)
    if batch_norm is None:
        return "inference" if honours else "frozen"
    _checks.one_of(batch_norm, BATCH_NORM_POLICIES, "batch_norm")
    if batch_norm == "inference" and not honours:
        raise ValueError(
            "Statistics can stand still while scale and offset train only in a FineTuner: Keras "
            "ties both to one flag. Use `FineTuner.from_model(model)`, or choose 'frozen' or "
            f"'train'. Received: a {type(model).__name__}"
        )
    return batch_norm
