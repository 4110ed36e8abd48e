"""Freeze and thaw layers by group, index, path or regex, at any depth, and say what changed."""

import dataclasses

import keras

from kerastl import _keras
from kerastl._base import checks
from kerastl._base.types import BatchNormPolicy, Where
from kerastl.graph import flat_layers, is_fine_tuner, layer_groups, select_layers
from kerastl.graph.adapters import without_held
from kerastl.graph.flags import (
    all_leaves,
    count_trainable,
    count_weights,
    fix_statistics,
    is_batch_norm,
    set_frozen,
    training_ids,
    with_leaves,
)


def freeze(model: keras.Model, where: Where) -> "Change":
    """Stop layers of `model` from training, at any depth and for good.

    It walks the leaves, so that it acts whatever the flags of the containers were. In a
    `FineTuner` a frozen layer is also inert: batch normalization, dropout and stochastic depth run
    in inference mode. In any other Keras model only batch normalization does; dropout of a frozen
    layer stays active there. Random augmentation layers are left alone: they are input, not
    network.

    Args:
        model: `keras.Model`, flat or nested, compiled or not.
        where: What to freeze: a layer, an index or slice into the flat list of layers, an exact
            path, a regex matching a whole path, a group name, or a list of these.

    Returns:
        `Change`: trainable weights before and after. Print it.

    Raises:
        ValueError: If `where` matches nothing; the message names the closest paths.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body"),
        ...                           keras.layers.Dense(2, name="head")])
        >>> print(freeze(model, "body"))
        freeze 1 layers: trainable weights 23 -> 8 of 23
    """
    return _change("freeze", model, select_layers(model, where), False)


def unfreeze(
    model: keras.Model, where: Where, *, batch_norm: BatchNormPolicy | None = None
) -> "Change":
    """Let layers of `model` train, whatever the flags of their parents.

    The statistics of a pretrained `BatchNormalization` jump when it thaws with few images. So a
    batch normalization that was frozen stays in inference mode unless asked otherwise:

    - `"inference"`: scale and offset train, the statistics stand still and are used (needs a
      `FineTuner`, which is where it is the default),
    - `"frozen"`: all of it stays frozen (the default in any other Keras model),
    - `"train"`: all of it trains and the statistics follow the batches.

    Layers that were training already are left as they are. Those of a base with adapters
    (`kerastl.peft`) stand still: what was chosen of these adapters trains.

    Args:
        model: `keras.Model`, flat or nested, compiled or not.
        where: As in `freeze`.
        batch_norm: One of `"inference"`, `"frozen"`, `"train"`, or None for the default.

    Returns:
        `Change`: trainable weights before and after.

    Raises:
        ValueError: If `where` matches nothing or the model cannot honour `batch_norm`.
        RuntimeError: If the model is compiled with an optimizer that was built without these
            weights and cannot take them up.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body"),
        ...                           keras.layers.Dense(2, name="head")])
        >>> model.trainable = False
        >>> print(unfreeze(model, "head"))
        unfreeze 1 layers: trainable weights 0 -> 8 of 23
    """
    policy = batch_norm_policy(model, batch_norm)
    chosen = select_layers(model, where)
    thawing = {id(leaf) for leaf in with_leaves(chosen)} - training_ids(model)
    norms = [leaf for leaf in all_leaves(model) if id(leaf) in thawing and is_batch_norm(leaf)]
    if policy == "frozen":
        held = {id(norm) for norm in norms}
        chosen = [leaf for leaf in with_leaves(chosen) if id(leaf) not in held]
    change = _change("unfreeze", model, chosen, True)
    if policy != "frozen":
        for norm in norms:
            fix_statistics(norm, policy == "inference")
    return change


def freeze_to(model: keras.Model, n: int) -> "Change":
    """Freeze the first `n` layer groups and train all after them.

    Args:
        model: `keras.Model`.
        n: Int in [-len(groups), len(groups)]. Negative counts from the head: -1 trains the last
            group alone.

    Returns:
        `Change`: trainable weights before and after.

    Raises:
        ValueError: If `n` is out of range; the message lists the groups.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body"),
        ...                           keras.layers.Dense(2, name="head")])
        >>> print(freeze_to(model, -1))
        freeze_to 2 layers: trainable weights 23 -> 8 of 23
    """
    groups = layer_groups(model)
    size = len(groups)
    if isinstance(n, bool) or not isinstance(n, int) or not -size <= n <= size:
        raise ValueError(
            f"`n` must be an int in [-{size}, {size}], because the model has {size} groups: "
            f"{checks.listed(groups.names, 40)}. Received: n={n!r}.{groups.note}"
        )
    names = list(groups.names)
    cut = n if n >= 0 else size + n
    frozen = [layer for name in names[:cut] for layer in groups[name]]
    training = [layer for name in names[cut:] for layer in groups[name]]
    before = count_trainable(model)
    if training:
        unfreeze(model, training)
    if frozen:
        freeze(model, frozen)
    return Change("freeze_to", len(frozen), before, count_trainable(model), count_weights(model))


def _change(action, model, chosen, trainable):
    leaves = [leaf for leaf in with_leaves(chosen) if not _keras.is_augmentation(leaf)]
    if trainable:
        leaves = _without_held(model, leaves)
    before = count_trainable(model)
    set_frozen(model, leaves, not trainable)
    return Change(action, len(leaves), before, count_trainable(model), count_weights(model))


def _without_held(model, leaves):
    """`leaves` without those in whose place adapters train; refused if none is left."""
    left = without_held(model, leaves)
    if leaves and not left:
        raise ValueError(
            f"{leaves[0].name!r} belongs to the base of the adapters of {model.name!r}, which "
            "stands still while they train. Unfreeze its adapter, or give the base back first: "
            "`kerastl.peft.unload(model)`."
        )
    return left


@dataclasses.dataclass(frozen=True)
class Change:
    """What a call changed: number of layers chosen, trainable weights before and after.

    `str(change)` is one line for a log.
    """

    action: str
    num_layers: int
    before: int
    after: int
    total: int

    def __str__(self) -> str:
        return (
            f"{self.action} {self.num_layers} layers: trainable weights "
            f"{self.before:,} -> {self.after:,} of {self.total:,}"
        )


BATCH_NORM_POLICIES = ("inference", "frozen", "train")


def freeze_batch_norm(
    model: keras.Model, where: Where | None = None, *, affine: bool = True, statistics: bool = True
) -> "Change":
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


def batch_norm_policy(
    model: keras.Model, batch_norm: BatchNormPolicy | None
) -> BatchNormPolicy | None:
    honours = is_fine_tuner(model)
    if batch_norm is None:
        return "inference" if honours else "frozen"
    checks.one_of(batch_norm, BATCH_NORM_POLICIES, "batch_norm")
    if batch_norm == "inference" and not honours:
        raise ValueError(
            "Statistics can stand still while scale and offset train only in a FineTuner: Keras "
            "ties both to one flag. Use `FineTuner.from_model(model)`, or choose 'frozen' or "
            f"'train'. Received: a {type(model).__name__}"
        )
    return batch_norm
