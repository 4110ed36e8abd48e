"""`kerastl inspect`: the layer groups and indices of a network."""

import click

from kerastl_cli import output
from kerastl_cli.options import json_option
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
@json_option
def inspect(
    model: str,
    weights: str,
    alpha: float | None,
    image_size: int | None,
    show_layers: bool,
    as_json: bool,
) -> None:
    """Print the layer groups of MODEL: a network's name, a preset or a .keras file."""
    start_tensorflow()
    from kerastl import inspect_model

    options = {"image_size": image_size} | ({} if alpha is None else {"alpha": alpha})
    chosen = None if weights.lower() == "none" else weights
    found = inspect_model(model, weights=chosen, **options)
    if not show_layers:
        del found["layers"]
    if as_json:
        output.print_json({"model": model, **found})
        return
    output.dicts_table(f"Layer groups of {model}, from input to head", found["groups"])
    if show_layers:
        output.dicts_table("Layers", found["layers"])
