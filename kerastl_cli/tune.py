"""`kerastl tune DATA`."""

import click

from kerastl_cli.options import AUGMENTATIONS, EXPORTS, STRATEGIES, backbone_options, run_options
from kerastl_cli.output import metrics_table, print_json
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Fine-tune a pretrained network on a folder of pictures.",
    epilog="Example: kerastl tune flowers/ --backbone efficientnet_b0 --epochs 15 --export int8",
)
@click.argument("data", type=click.Path())
@backbone_options
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default="gradual",
    show_default=True,
    help="Which layers thaw, and when.",
)
@click.option("--epochs", type=int, default=20, show_default=True)
@click.option(
    "--learning-rate",
    type=float,
    default=1e-2,
    show_default=True,
    help="Peak rate of the head; layers below learn more slowly.",
)
@click.option(
    "--averaging",
    type=float,
    default=0.2,
    show_default=True,
    help="Share of the training over which weights are averaged; 0 for the last weights.",
)
@click.option("--batch-size", type=int, default=32, show_default=True)
@click.option(
    "--augment",
    type=click.Choice(AUGMENTATIONS),
    default="light",
    show_default=True,
    help="Random changes of training pictures.",
)
@click.option(
    "--augmented-copies",
    type=int,
    help="Cache so many views of each picture at the frozen layers.  [default: none]",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--export",
    type=click.Choice(EXPORTS),
    default="float",
    show_default=True,
    help="Device file to write and check; a quantized one has float.tflite beside it.",
)
@click.option(
    "--adapt-statistics",
    is_flag=True,
    help="Give batch normalizations the statistics of the training pictures first.",
)
@click.option(
    "--validation",
    type=float,
    default=0.0,
    show_default=True,
    help="Share of the training pictures held back for curves, if DATA has no val/.",
)
@run_options
def tune(data, out, overwrite, as_json, **settings):
    """Fine-tune a pretrained network on the pictures in DATA.

    DATA is a folder of class folders, or one with train/ and val/ or test/ in it. The run folder
    holds model.keras, model.tflite, labels.txt, plan.json, config.json, metrics.json and
    curves.png. Model and file take RGB pixels 0 to 255. A run that was stopped goes on when the
    same command is given again.
    """
    start_tensorflow()
    from kerastl.recipes import fine_tune

    with Progress() as progress:
        result = fine_tune(data, out, progress=progress, overwrite=overwrite, **settings)
    if as_json:
        print_json({**result.metrics, "folder": str(result.folder)})
        return
    for notice in result.metrics["notices"]:
        click.echo(f"Note: {notice}", err=True)
    metrics_table(result.metrics, result.folder)
