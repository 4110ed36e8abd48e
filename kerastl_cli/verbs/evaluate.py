"""`kerastl evaluate`: measure a model or a device file on data."""

import click

from kerastl_cli import output
from kerastl_cli.options import input_range_option, json_option
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Measure a model or .tflite on data.",
    epilog="Example: kerastl evaluate saved_models/flowers-mobilenet_v2/model.tflite flowers/",
)
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@input_range_option
@json_option
def evaluate(model: str, data: str, input_range: tuple[float, float] | None, as_json: bool) -> None:
    """Measure MODEL on DATA.

    MODEL is a run folder, a .keras or a .tflite file; task.json and labels.txt are looked for
    beside it. DATA is as `kerastl tune` takes it; where it holds test (or val), only that is used.
    Of a .tflite the size and the time for an example are told too, beside those of the model.keras
    and float.tflite that lie with it.
    """
    start_tensorflow()
    from kerastl import evaluate as run

    with Progress() as progress:
        report = run(model, data, input_range=input_range, progress=progress)
    if as_json:
        output.print_json(report)
        return
    for file in report["skipped"]:
        click.echo(f"Skipped: {file['file']} ({file['reason']})", err=True)
    output.notices(report["notices"])
    output.score_tables(f"{model} on {report['data']}", report)
    if report["files"]:
        output.files_table(
            "The same network, agreement with the row above", report["files"], report
        )
