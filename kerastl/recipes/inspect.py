"""`inspect_model`: the layer groups of a network and the indices of their layers."""

import pathlib
from typing import Any

from kerastl import backbones
from kerastl._base.types import PathLike
from kerastl.freezing import trainable_summary
from kerastl.graph import flat_layers, layer_groups, leaf_layers
from kerastl.recipes.finished import load_run


def inspect_model(
    model: PathLike, *, weights: PathLike | None = None, **options: Any
) -> dict[str, Any]:
    """The layer groups of a network, from input to head, and all its layers by index.

    Args:
        model: A name that `backbones.load` knows, a preset, the path of a `.keras` file or a
            run folder.
        weights: For a network by name: None, `"imagenet"` or a weights file.
        **options: Of `backbones.load`.

    Returns:
        Dict with `groups`, a list of dicts `group`, `indices`, `layers`, `weights` and `trainable`;
        and `layers`, a list of dicts `layer`, `index`, `type`, `group` and `weights`.

    Raises:
        ValueError, OSError: If there is no such network or file.

    Example:
        >>> found = inspect_model("mobilenet", alpha=0.25)
        >>> found["groups"][0]["group"], found["groups"][0]["indices"]
        ('stem', '0-4')
    """
    path = pathlib.Path(model)
    if path.suffix == ".keras" or (path / "model.keras").is_file():
        network = load_run(path).model
    else:
        network = backbones.load(model, weights=weights, **options)
    owner = {id(leaf): name for name, held in layer_groups(network).items() for leaf in held}
    groups = [
        {
            "group": row.group,
            "indices": row.indices,
            "layers": row.layers,
            "weights": row.weights,
            "trainable": row.trainable,
        }
        for row in trainable_summary(network).rows
    ]
    layers = [
        {
            "layer": layer.name,
            "index": i,
            "type": type(layer).__name__,
            "group": "/".join(dict.fromkeys(owner[id(leaf)] for leaf in leaf_layers(layer))),
            "weights": layer.count_params() if layer.built else 0,
        }
        for i, layer in enumerate(flat_layers(network))
    ]
    return {"groups": groups, "layers": layers}
