"""`kerastl lr-find DATA`."""

import click

from kerastl_cli.options import backbone_options
from kerastl_cli.output import print_json, print_table
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow

MEANING = {
    "valley": "middle of the longest fall: use this",
    "steep": "where the loss falls fastest",
    "slide": "from the right, where the slope settles",
    "minimum": "a tenth of the rate of the lowest loss",
}


@click.command(
    "lr-find",
    short_help="Find a learning rate for a folder of pictures.",
    epilog="Example: kerastl lr-find flowers/ --backbone efficientnet_b0 --strategy head",
)
@click.argument("data", type=click.Path())
@backbone_options
@click.option(
    "--strategy",
    type=click.Choice(["head", "full"]),
    default="full",
    show_default=True,
    help="What trains: the head alone, or every layer, those below the head more slowly.",
)
@click.option("--batch-size", type=int, default=32, show_default=True)
@click.option("--steps", type=int, default=100, show_default=True, help="Steps of the ramp.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(),
    default="lr_find.png",
    show_default=True,
    help="Picture of the curve; an earlier one is replaced.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def lr_find(data, out, as_json, **settings):
    """Raise the learning rate step by step on the pictures in DATA and print what suits.

    DATA is a folder as `kerastl tune` takes it. The rate is that of the head, for --learning-rate
    of `kerastl tune`.
    """
    start_tensorflow()
    from kerastl.recipes.lr_find import find_learning_rate

    with Progress() as progress:
        result = find_learning_rate(data, out, progress=progress, **settings)
    if as_json:
        print_json(
            {
                "suggestion": result.suggestion,
                "suggestions": result.suggestions,
                "reason": result.reason,
                "rates": result.rates,
                "losses": result.losses,
                "picture": str(out),
            }
        )
        return
    rows = [
        (rule, "-" if rate is None else f"{rate:.2g}", MEANING[rule])
        for rule, rate in result.suggestions.items()
    ]
    print_table("Learning rates", ("rule", "rate", ""), rows)
    click.echo(result.summary())
    click.echo(f"The curve is in {out}.")
