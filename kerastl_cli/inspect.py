"""`kerastl inspect MODEL`."""

import click

from kerastl_cli.output import print_json, print_table
from kerastl_cli.start import start_tensorflow


@click.command(short_help="Print a network's layer groups and indices.")
@click.argument("model")
@click.option(
    "--weights",
    default="none",
    show_default=True,
    help="For a network by name: 'none', 'imagenet' or a weights file.",
)
@click.option("--alpha", type=float, help="Width multiplier of networks that have one.")
@click.option("--image-size", type=int, help="Side in pixels, for a network by name.")
@click.option(
    "--layers",
    "show_layers",
    is_flag=True,
    help="Also list every layer with its index, for freezing by index.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(model, weights, alpha, image_size, show_layers, as_json):
    """Print the layer groups of MODEL: a network's name, a preset or a .keras file."""
    start_tensorflow()
    network = _open(model, weights, alpha, image_size)
    groups, layers = _tables(network)
    if as_json:
        found = {"model": model, "groups": groups}
        print_json({**found, "layers": layers} if show_layers else found)
        return
    print_table(f"Layer groups of {model}, from input to head", list(groups[0]), _cells(groups))
    if show_layers:
        print_table("Layers", list(layers[0]), _cells(layers))


def _open(model, weights, alpha, image_size):
    from kerastl import backbones
    from kerastl.recipes.finished import load_keras

    if model.endswith(".keras"):
        return load_keras(model)
    options = {} if alpha is None else {"alpha": alpha}
    weights = None if weights.lower() == "none" else weights
    return backbones.load(model, weights=weights, image_size=image_size, **options)


def _tables(network):
    from kerastl.freezing import trainable_summary
    from kerastl.graph import flat_layers, layer_groups, leaf_layers

    rows = trainable_summary(network).rows
    groups = [
        {
            "group": r.group,
            "indices": r.indices,
            "layers": r.layers,
            "weights": r.weights,
            "trainable": r.trainable,
        }
        for r in rows
    ]
    owner = {id(leaf): name for name, held in layer_groups(network).items() for leaf in held}
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
    return groups, layers


def _cells(rows):
    return [[f"{v:,}" if isinstance(v, int) else v for v in row.values()] for row in rows]
