"""`kerastl lr-find`: find a learning rate for data."""

from typing import Any

import click

from kerastl_cli import output
from kerastl_cli.options import json_option, options_of, settings
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Find a learning rate for your data.",
    epilog="Example: kerastl lr-find flowers/ --backbone efficientnet_b0 --strategy head",
)
@click.argument("data", type=click.Path())
@options_of(
    settings.LRFindSettings,
    without=("epochs", "learning_rate", "averaging", "augmented_copies", "validation", "metric"),
)
@click.option(
    "--out",
    type=click.Path(),
    default="lr_find.png",
    show_default=True,
    help="Picture of the curve; an earlier one is replaced.",
)
@json_option
def lr_find(data: str, out: str, as_json: bool, **options: Any) -> None:
    """Raise the learning rate step by step on DATA and print what suits.

    DATA is as `kerastl tune` takes it. The rate is that of the head, for --learning-rate of
    `kerastl tune`.
    """
    start_tensorflow()
    from kerastl import find_learning_rate

    with Progress() as progress:
        result = find_learning_rate(data, out, progress=progress, **options)
    if as_json:
        said = ("suggestion", "suggestions", "reason", "rates", "losses")
        found = {name: getattr(result, name) for name in said}
        output.print_json({**found, "picture": str(out)})
        return
    output.rates_table(result)
    click.echo(f"The curve is in {out}.")
