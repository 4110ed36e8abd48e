"""`kerastl compress MODEL`."""

import click

from kerastl_cli.options import AUGMENTATIONS, run_options
from kerastl_cli.output import files_table, print_json
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Make a finished model small: channels, zeros, 8 bits.",
    epilog="Example: kerastl compress saved_models/flowers-mobilenet_v2 --data flowers/ "
    "--prune 0.6 --qat",
)
@click.argument("model", type=click.Path())
@click.option(
    "--data",
    type=click.Path(),
    required=True,
    help="Folder of pictures that the model was trained on.",
)
@click.option("--prune", type=float, help="Share of the weights that become zero, in [0, 1).")
@click.option(
    "--block-size",
    type=int,
    nargs=2,
    default=(1, 1),
    metavar="IN OUT",
    help="Zeros in blocks of so many inputs and outputs.",
)
@click.option(
    "--m-by-n",
    type=int,
    nargs=2,
    metavar="M N",
    help="M zeros in each N inputs, such as 2 4, in place of --prune.",
)
@click.option(
    "--prune-channels", type=float, help="Share of whole channels to take away, in (0, 1)."
)
@click.option(
    "--qat",
    is_flag=True,
    help="Train with quantization in the loop; else int8 is calibrated.",
)
@click.option(
    "--epochs", type=int, default=10, show_default=True, help="Of each stage that trains."
)
@click.option(
    "--learning-rate",
    type=float,
    default=3e-3,
    show_default=True,
    help="Peak rate; a tenth of it with zeros, a thirtieth with quantization in the loop.",
)
@click.option(
    "--distill",
    type=float,
    default=0.5,
    show_default=True,
    help="Share of MODEL's own answers, in place of labels, in what each stage learns.",
)
@click.option("--batch-size", type=int, default=32, show_default=True)
@click.option(
    "--augment",
    type=click.Choice(AUGMENTATIONS),
    default="light",
    show_default=True,
    help="Random changes of training pictures.",
)
@click.option("--seed", type=int, help="[default: that of the model's run]")
@click.option(
    "--max-drop",
    type=float,
    default=0.01,
    show_default=True,
    help="How much accuracy a calibrated file may lose; else layers stay in float.",
)
@click.option(
    "--validation",
    type=float,
    default=0.0,
    show_default=True,
    help="Share of the training pictures held back to judge --max-drop on.",
)
@run_options
def compress(model, data, out, overwrite, as_json, **settings):
    """Make MODEL, a run folder or a .keras file, small, and measure each stage.

    First whole channels go, then weights become zero, each while the model trains on the pictures
    in --data; then it is written in 8 bits. The run folder holds model.keras, model.tflite,
    float.tflite (the same weights in float32), labels.txt, config.json, metrics.json and
    stages.png. When it was stopped, the same command goes on from there.
    """
    start_tensorflow()
    from kerastl.recipes import compress as run

    with Progress() as progress:
        result = run(model, data, out, progress=progress, overwrite=overwrite, **settings)
    if as_json:
        print_json({**result.metrics, "folder": str(result.folder)})
        return
    for notice in result.metrics["notices"]:
        click.echo(f"Note: {notice}", err=True)
    count = result.metrics["num_examples"]
    title = f"{result.folder}, on {count} pictures held out; agreement with the row above"
    files_table(title, result.metrics["rows"], first="stage")
    click.echo(f"The picture is in {result.folder / 'stages.png'}.")
