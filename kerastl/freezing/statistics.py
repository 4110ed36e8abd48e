"""Which batch normalizations a FineTuner holds to their statistics, however they are thawed."""

import warnings
from collections.abc import Iterable

import keras

from kerastl import _keras
from kerastl._base import checks
from kerastl.freezing.groups import HEAD
from kerastl.graph.flags import all_leaves, fix_statistics, is_batch_norm, training_ids
from kerastl.graph.layer_groups import LayerGroups
from kerastl.graph.leaves import leaf_layers


def frozen_norms(model: keras.Model) -> list[keras.Layer]:
    """The batch normalizations of `model` that are frozen now."""
    norms = [leaf for leaf in all_leaves(model) if is_batch_norm(leaf)]
    training = training_ids(model) if norms else ()
    return [norm for norm in norms if id(norm) not in training]


def hold_statistics(norms: Iterable[keras.Layer], groups: LayerGroups) -> None:
    """Have frozen `norms` keep their statistics when a flag that is set by hand thaws them.

    It is what `unfreeze` does unless told otherwise. Those of the head are new and learn theirs.
    """
    head = set(map(id, groups[HEAD])) if HEAD in groups.names else ()
    for norm in norms:
        if id(norm) not in head:
            fix_statistics(norm, True)


def honour_recorded_inference(model: keras.Model) -> None:
    """Do what a call recorded with `training=False` in the graph of `model` can ask for.

    `fit` overwrites that constant, in Keras too. Batch normalizations below such a call keep their
    statistics; what else acts otherwise in training is told to the user.
    """
    for operation in _called_to_infer(model):
        below = leaf_layers(operation)
        for norm in filter(is_batch_norm, below):
            fix_statistics(norm, True)
        active = [leaf.name for leaf in below if _keras.draws_at_random(leaf)]
        if active:
            warnings.warn(
                f"The `training=False` with which {operation.name!r} is called is dropped, as "
                "`fit` does in Keras: its batch normalizations keep their statistics, but "
                f"{len(active)} of its layers draw at random in training where they are not "
                f"frozen: {checks.listed(active, 3)}. `freeze` them to have them infer.",
                stacklevel=4,
            )


def _called_to_infer(graph):
    for node in _keras.graph_nodes(graph):
        if _keras.called_with_training(node) is False and isinstance(node.operation, keras.Layer):
            yield node.operation
        elif nested := _keras.graph_of(node.operation):
            yield from _called_to_infer(nested)
