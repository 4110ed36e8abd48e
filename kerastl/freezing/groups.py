"""Which groups train, as a phase says: the result depends on that alone, not on what was before."""

from collections.abc import Collection, Iterable

import keras

from kerastl._base.types import BatchNormPolicy
from kerastl.freezing.freeze import freeze, unfreeze
from kerastl.graph.adapters import without_held
from kerastl.graph.flags import is_batch_norm, with_leaves
from kerastl.graph.layer_groups import LayerGroups

HEAD = "head"  # what `layer_groups` calls the new layers behind a backbone


def train_groups(
    model: keras.Model, groups: LayerGroups, names: Collection[str], batch_norm: BatchNormPolicy
) -> None:
    """Have the `groups` called `names` train and no others.

    Where adapters train in the place of layers, those of these groups do, and the layers stand
    still. Batch normalizations of the backbone obey `batch_norm` whatever they did before. Those of
    the head are new: in inference mode they would never learn the statistics that they use.
    """
    resting = layers_of(groups, [name for name in groups.names if name not in names])
    backbone = layers_of(groups, [name for name in names if name != HEAD])
    norms = [leaf for leaf in with_leaves(backbone) if is_batch_norm(leaf)]
    if resting or norms:
        freeze(model, resting + norms)
    backbone, head = (without_held(model, layers) for layers in (backbone, _head(groups, names)))
    if backbone:
        unfreeze(model, backbone, batch_norm=batch_norm)
    if head:
        unfreeze(model, head, batch_norm="train")


def _head(groups, names):
    return list(groups[HEAD]) if HEAD in names else []


def layers_of(groups: LayerGroups, names: Iterable[str]) -> list[keras.Layer]:
    """The layers of the groups called `names`, as a list: a name alone may also be a layer's."""
    return [layer for name in names for layer in groups[name]]
