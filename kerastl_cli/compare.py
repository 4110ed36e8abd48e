"""`kerastl compare DATA`."""

import click

from kerastl_cli.options import AUGMENTATIONS, backbone_options
from kerastl_cli.output import print_json, print_table
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Train by several strategies on a folder of pictures, side by side.",
    epilog="Example: kerastl compare flowers/ --backbone efficientnet_b0 --seeds 3",
)
@click.argument("data", type=click.Path())
@backbone_options
@click.option(
    "--strategies",
    default="head,partial,full,gradual,lp_ft",
    show_default=True,
    help="Names, separated by commas.",
)
@click.option("--seeds", type=int, default=2, show_default=True, help="Trainings by each.")
@click.option("--epochs", type=int, default=10, show_default=True, help="The budget of each.")
@click.option("--learning-rate", type=float, default=1e-2, show_default=True)
@click.option("--batch-size", type=int, default=32, show_default=True)
@click.option(
    "--augment",
    type=click.Choice(AUGMENTATIONS),
    default="none",
    show_default=True,
    help="Random changes of training pictures; without them, frozen layers run once.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The first seed.")
@click.option("--out", type=click.Path(), help="Folder.  [default: a new one in saved_models]")
@click.option("--overwrite", is_flag=True, help="Replace an earlier comparison at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print metrics.json instead of a table.")
def compare(data, out, overwrite, as_json, strategies, **settings):
    """Train a network on the pictures in DATA by each strategy and print what each costs and gives.

    All have the same epochs, pictures and seeds. The folder holds metrics.json, comparison.md and
    comparison.png.
    """
    start_tensorflow()
    from kerastl.recipes import compare as run
    from kerastl.recipes.compare import HEADER, cells

    names = [name.strip() for name in strategies.split(",") if name.strip()]
    with Progress() as progress:
        result = run(
            data, out, strategies=names, progress=progress, overwrite=overwrite, **settings
        )
    if as_json:
        print_json({"rows": result.rows, "folder": str(result.folder)})
        return
    print_table(str(result.folder), HEADER, [cells(row) for row in result.rows])
