"""`kerastl export`: write a finished model as a device file."""

from typing import Any

import click

from kerastl_cli import output
from kerastl_cli.options import options_of, out_options, settings
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Write a finished model as a device file, measured.",
    epilog="Example: kerastl export saved_models/flowers-mobilenet_v2 --quantize int8 "
    "--data flowers/ --max-drop 0.01",
)
@click.argument("model", type=click.Path())
@click.option(
    "--data",
    type=click.Path(),
    help="Data as in training: to calibrate int8 and int16x8, and to measure on.",
)
@options_of(settings.ExportSettings)
@out_options("File to write.", "one beside the model")
def export(
    model: str, out: str | None, data: str | None, overwrite: bool, as_json: bool, **options: Any
) -> None:
    """Write MODEL, a run folder or a .keras file, as a file for a device.

    The file is run and compared with the model before it appears at its path, and measured beside
    the float32 file. With --max-drop, int8 is followed by int8 with the worst layers in float,
    dynamic and float16, and the first that keeps the score is taken.

    Of texts the file takes one of a fixed length, as MediaPipe's TextClassifier gives it; a
    WordPiece vocabulary is inside, another in tokens/ beside it.
    """
    start_tensorflow()
    from kerastl import export_model

    with Progress() as progress:
        result = export_model(
            model, out, data=data, progress=progress, overwrite=overwrite, **options
        )
    output.notices(result.notices)
    output.print_export(result, as_json)
