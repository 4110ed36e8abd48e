"""`kerastl export MODEL`."""

import click

from kerastl_cli.options import FORMATS, IO_DTYPES, QUANTIZE
from kerastl_cli.output import files_table, print_json
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Write a finished model as a device file, measured.",
    epilog="Example: kerastl export saved_models/flowers-mobilenet_v2 --quantize int8 "
    "--data flowers/ --max-drop 0.01",
)
@click.argument("model", type=click.Path())
@click.option(
    "--quantize",
    type=click.Choice(QUANTIZE),
    default="none",
    show_default=True,
    help="Smaller numbers in the file: weights alone, or activations too (int8, int16x8).",
)
@click.option(
    "--data",
    type=click.Path(),
    help="Folder of pictures as in training: to calibrate int8 and int16x8, and to measure on.",
)
@click.option(
    "--max-drop",
    type=float,
    help="How much accuracy may be lost (0.01: one point); else larger files are tried.",
)
@click.option(
    "--io-dtype",
    type=click.Choice(IO_DTYPES),
    default="float32",
    show_default=True,
    help="What the file takes and gives.",
)
@click.option("--format", type=click.Choice(FORMATS), default="litert", show_default=True)
@click.option("--out", type=click.Path(), help="File to write.  [default: one beside the model]")
@click.option("--overwrite", is_flag=True, help="Replace what lies at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def export(model, out, data, overwrite, as_json, **settings):
    """Write MODEL, a run folder or a .keras file, as a file for a device.

    The file is run and compared with the model before it appears at its path, and measured beside
    the float32 file. With --max-drop, int8 is followed by int8 with the worst layers in float,
    dynamic and float16, and the first that keeps the accuracy is taken.
    """
    start_tensorflow()
    from kerastl.recipes import export_model

    with Progress() as progress:
        result = export_model(
            model, out, data=data, progress=progress, overwrite=overwrite, **settings
        )
    for notice in result.notices:
        click.echo(f"Note: {notice}", err=True)
    if as_json:
        print_json(_plain(result))
        return
    if result.ladder is not None:
        click.echo(f"{result.ladder}\n")
        kept = _kept(result.ladder)
        left = f"; {', '.join(kept)} stayed in float" if kept else ""
        click.echo(f"Judged on {result.judged_on}{left}.")
    if result.rows:
        files_table(result.path, result.rows)
    else:
        click.echo(f"Written: {result.path}")


def _plain(result):
    found = {"path": result.path, "rows": result.rows, "notices": result.notices}
    if result.ladder is not None:
        chosen = result.ladder.chosen
        found.update(
            taken=chosen.name,
            in_float=_kept(result.ladder),
            tried=[rung.name for rung in result.ladder.rungs],
            judged_on=result.judged_on,
        )
    return found


def _kept(ladder):
    """Names of the layers that stayed in float."""
    return [entry.layer for entry in ladder.chosen.kept]
