"""`kerastl compress`: make a finished model small."""

from typing import Any

import click

from kerastl_cli import output
from kerastl_cli.options import options_of, out_options, settings
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Make a finished model small: channels, zeros, 8 bits.",
    epilog="Example: kerastl compress saved_models/flowers-mobilenet_v2 --data flowers/ "
    "--prune 0.6 --qat",
)
@click.argument("model", type=click.Path())
@click.option(
    "--data", type=click.Path(), required=True, help="The data that the model was trained on."
)
@options_of(settings.CompressSettings)
@out_options()
def compress(
    model: str, data: str, out: str | None, overwrite: bool, as_json: bool, **options: Any
) -> None:
    """Make MODEL, a run folder or a .keras file, small, and measure each stage.

    First whole channels go, then weights become zero, each while the model trains on --data; then
    it is written in 8 bits. The run folder holds model.keras, model.tflite, float.tflite (the same
    weights in float32), labels.txt, task.json, config.json, metrics.json and stages.png. When it
    was stopped, the same command goes on from there.

    Networks of texts become smaller by --prune and by 8-bit weights; their embeddings stay dense.
    """
    start_tensorflow()
    from kerastl import compress as run

    with Progress() as progress:
        result = run(model, data, out, progress=progress, overwrite=overwrite, **options)
    metrics = result.metrics
    if as_json:
        output.print_json({**metrics, "folder": str(result.folder)})
        return
    output.notices(metrics["notices"])
    count = f"{metrics['num_examples']} {metrics['examples']} held out"
    title = f"{result.folder}, on {count}; agreement with the row above"
    output.files_table(title, metrics["rows"], metrics, first="stage")
    click.echo(f"The picture is in {result.folder / 'stages.png'}.")
