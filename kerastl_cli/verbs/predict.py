"""`kerastl predict`: say what is in new examples."""

import click

from kerastl_cli import output
from kerastl_cli.options import input_range_option, json_option
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(short_help="Say what is in new examples.")
@click.argument("model", type=click.Path())
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many classes or labels to name for each.",
)
@input_range_option
@json_option
def predict(
    model: str,
    files: tuple[str, ...],
    top: int,
    input_range: tuple[float, float] | None,
    as_json: bool,
) -> None:
    """Say what MODEL sees in FILES (or in the files of the folders among them).

    MODEL is a run folder, a .keras or a .tflite file; task.json and labels.txt are looked for
    beside it.
    """
    start_tensorflow()
    from kerastl import predict as run

    with Progress() as progress:
        found = run(model, files, top=top, input_range=input_range, progress=progress)
    if as_json:
        output.print_json({"model": str(model), "predictions": found})
        return
    output.print_table(str(model), ("file", ""), [(a["file"], a["sentence"]) for a in found])
