"""The freezing of a model as plain data, so that a saved model comes back as it was."""

from collections.abc import Mapping
from typing import Any

import keras

from kerastl import _keras
from kerastl.graph.flags import (
    all_leaves,
    fix_statistics,
    has_fixed_statistics,
    is_batch_norm,
    set_frozen,
    training_ids,
)


def freezing_state(model: keras.Model) -> dict[str, list]:
    """Which leaves of `model` are frozen and which batch normalizations are fixed, by position.

    A `.keras` file keeps the flags of layers in the graph, not of those inside a composite layer,
    and knows nothing of fixed statistics.

    Returns:
        Dict of two lists of ints, positions in the model's list of leaves: `"frozen"` and
        `"fixed_statistics"`; and `"held"`, pairs of such a position and the position of one of
        that leaf's variables which alone does not train.
    """
    leaves = all_leaves(model)
    visible = training_ids(model)
    return {
        "frozen": [i for i, leaf in enumerate(leaves) if id(leaf) not in visible],
        "fixed_statistics": [i for i, leaf in enumerate(leaves) if has_fixed_statistics(leaf)],
        "held": [
            [i, j]
            for i, leaf in enumerate(leaves)
            if id(leaf) in visible
            for j, variable in enumerate(_keras.own_trainable_variables(leaf))
            if not variable.trainable
        ],
    }


def restore_freezing(model: keras.Model, state: Mapping[str, Any]) -> None:
    """Bring `model` into the `state` that `freezing_state` told of a model of the same graph."""
    if freezing_state(model) == state:
        return
    leaves: list[Any] = all_leaves(model)
    # Thawing one leaf after the other would give slots to weights that shall have none.
    with _keras.without_train_function(model):
        set_frozen(model, leaves, False)
        set_frozen(model, [leaves[i] for i in state["frozen"]], True)
        for i, leaf in enumerate(leaves):
            if is_batch_norm(leaf):
                fix_statistics(leaf, i in state["fixed_statistics"])
    for i, j in state["held"]:
        variable: Any = _keras.own_trainable_variables(leaves[i])[j]
        variable.trainable = False
