"""`kerastl compare`: several strategies on the same data, side by side."""

from typing import Any

import click

from kerastl_cli import output
from kerastl_cli.options import options_of, out_options, settings
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Train by several strategies on the same data, side by side.",
    epilog="Example: kerastl compare flowers/ --backbone efficientnet_b0 --seeds 3",
)
@click.argument("data", type=click.Path())
@options_of(settings.CompareSettings)
@out_options("Folder.")
def compare(data: str, out: str | None, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Train a network on DATA by each strategy and print what each costs and gives.

    All have the same epochs, examples and seeds. The folder holds metrics.json, comparison.md and
    comparison.png.
    """
    start_tensorflow()
    from kerastl import compare as run
    from kerastl.recipes.compare import cells, header
    from kerastl.tasks import objective_of

    with Progress() as progress:
        result = run(data, out, progress=progress, overwrite=overwrite, **options)
    if as_json:
        output.print_json({**result.metrics, "folder": str(result.folder)})
        return
    objective = objective_of(result.metrics)
    rows = [cells(row, objective) for row in result.rows]
    output.print_table(str(result.folder), header(objective), rows)
