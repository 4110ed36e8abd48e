"""The verbs: each calls the public function of its name and prints what that gives."""

from typing import Any

import click

from kerastl_cli import output
from kerastl_cli.options import json_option, options_of, out_options, settings
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow

EXAMPLE = "Example: kerastl "


@click.command(
    short_help="Fine-tune a pretrained network on your data.",
    epilog=EXAMPLE + "tune flowers/ --backbone efficientnet_b0 --epochs 15 --export int8",
)
@click.argument("data", type=click.Path())
@options_of(settings.TuneSettings)
@out_options()
def tune(data: str, out: str | None, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Fine-tune a pretrained network on the pictures in DATA.

    DATA is a folder of class folders, or one with train/ and val/ or test/ in it; or a table
    (.csv, .tsv, or a folder with a labels.csv in it) with the columns file and label (a class),
    labels (any number of them, red|round) or value (a number). The run folder holds model.keras,
    model.tflite, labels.txt, task.json, plan.json, config.json, metrics.json and curves.png. Model
    and file take RGB pixels 0 to 255. A run that was stopped goes on when the same command is given
    again.
    """
    start_tensorflow()
    from kerastl import fine_tune

    with Progress() as progress:
        result = fine_tune(data, out, progress=progress, overwrite=overwrite, **options)
    if as_json:
        output.print_json({**result.metrics, "folder": str(result.folder)})
        return
    output.notices(result.metrics["notices"])
    output.metrics_table(result.metrics, result.folder)


@click.command(
    short_help="Train by several strategies on the same data, side by side.",
    epilog=EXAMPLE + "compare flowers/ --backbone efficientnet_b0 --seeds 3",
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
    from kerastl.tasks import objective_named

    with Progress() as progress:
        result = run(data, out, progress=progress, overwrite=overwrite, **options)
    if as_json:
        output.print_json({**result.metrics, "folder": str(result.folder)})
        return
    objective = objective_named(result.metrics["objective"])
    rows = [cells(row, objective) for row in result.rows]
    output.print_table(str(result.folder), header(objective), rows)


@click.command(
    short_help="Find a learning rate for your data.",
    epilog=EXAMPLE + "lr-find flowers/ --backbone efficientnet_b0 --strategy head",
)
@click.argument("data", type=click.Path())
@options_of(
    settings.LRFindSettings,
    without=("epochs", "learning_rate", "averaging", "augmented_copies", "export", "validation"),
)
@click.option(
    "--out",
    type=click.Path(),
    default="lr_find.png",
    show_default=True,
    help="Picture of the curve; an earlier one is replaced.",
)
@json_option
def lr_find(data: str, out: str, as_json: bool, **options: Any) -> None:
    """Raise the learning rate step by step on DATA and print what suits.

    DATA is as `kerastl tune` takes it. The rate is that of the head, for --learning-rate of
    `kerastl tune`.
    """
    start_tensorflow()
    from kerastl import find_learning_rate

    with Progress() as progress:
        result = find_learning_rate(data, out, progress=progress, **options)
    if as_json:
        said = ("suggestion", "suggestions", "reason", "rates", "losses")
        found = {name: getattr(result, name) for name in said}
        output.print_json({**found, "picture": str(out)})
        return
    output.rates_table(result)
    click.echo(f"The curve is in {out}.")


@click.command(short_help="Print a network's layer groups and indices.")
@click.argument("model")
@click.option(
    "--weights",
    default="none",
    show_default=True,
    help="For a network by name: 'none', 'imagenet' or a weights file.",
)
@click.option("--alpha", type=float, help="Width multiplier of networks that have one.")
@click.option("--image-size", type=int, help="Side in pixels, for a network by name.")
@click.option(
    "--layers",
    "show_layers",
    is_flag=True,
    help="Also list every layer with its index, for freezing by index.",
)
@json_option
def inspect(
    model: str,
    weights: str,
    alpha: float | None,
    image_size: int | None,
    show_layers: bool,
    as_json: bool,
) -> None:
    """Print the layer groups of MODEL: a network's name, a preset or a .keras file."""
    start_tensorflow()
    from kerastl import inspect_model

    options = {"image_size": image_size} | ({} if alpha is None else {"alpha": alpha})
    chosen = None if weights.lower() == "none" else weights
    found = inspect_model(model, weights=chosen, **options)
    if not show_layers:
        del found["layers"]
    if as_json:
        output.print_json({"model": model, **found})
        return
    output.dicts_table(f"Layer groups of {model}, from input to head", found["groups"])
    if show_layers:
        output.dicts_table("Layers", found["layers"])


@click.command(
    short_help="Measure a model or .tflite on data.",
    epilog=EXAMPLE + "evaluate saved_models/flowers-mobilenet_v2/model.tflite flowers/",
)
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@json_option
def evaluate(model: str, data: str, as_json: bool) -> None:
    """Measure MODEL on DATA.

    MODEL is a run folder, a .keras or a .tflite file; task.json and labels.txt are looked for
    beside it. DATA is as `kerastl tune` takes it; where it holds test (or val), only that is used.
    Of a .tflite the size and the time for an example are told too, beside those of the model.keras
    and float.tflite that lie with it.
    """
    start_tensorflow()
    from kerastl import evaluate as run

    with Progress() as progress:
        report = run(model, data, progress=progress)
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
@json_option
def predict(model: str, files: tuple[str, ...], top: int, as_json: bool) -> None:
    """Say what MODEL sees in FILES (or in the files of the folders among them).

    MODEL is a run folder, a .keras or a .tflite file; task.json and labels.txt are looked for
    beside it.
    """
    start_tensorflow()
    from kerastl import predict as run

    with Progress() as progress:
        found = run(model, files, top=top, progress=progress)
    if as_json:
        output.print_json({"model": str(model), "predictions": found})
        return
    output.print_table(str(model), ("file", ""), [(a["file"], a["sentence"]) for a in found])


@click.command(
    short_help="Make a finished model small: channels, zeros, 8 bits.",
    epilog=EXAMPLE + "compress saved_models/flowers-mobilenet_v2 --data flowers/ --prune 0.6 --qat",
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


@click.command(
    short_help="Write a finished model as a device file, measured.",
    epilog=EXAMPLE + "export saved_models/flowers-mobilenet_v2 --quantize int8 --data flowers/ "
    "--max-drop 0.01",
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
    """
    start_tensorflow()
    from kerastl import export_model

    with Progress() as progress:
        result = export_model(
            model, out, data=data, progress=progress, overwrite=overwrite, **options
        )
    output.notices(result.notices)
    output.print_export(result, as_json)


@click.command(short_help="Glyphs to handwritten digits, offline.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Runs with different labelled digits and starting weights.",
)
@out_options()
def demo(seeds: int, out: str | None, overwrite: bool, as_json: bool) -> None:
    """Show the main job offline: rendered glyphs to handwritten digits, ten labels a class.

    A small network that was pretrained on letters and digits drawn with fonts is fine-tuned on
    100 handwritten digits and compared with the same network trained from scratch on them.
    """
    start_tensorflow()
    from kerastl import run_demo

    with Progress() as progress:
        result = run_demo(out, seeds=seeds, progress=progress, overwrite=overwrite)
    if as_json:
        output.print_json({**result.metrics, "folder": str(result.folder)})
        return
    output.metrics_table(result.metrics, result.folder)
    output.contestants_table(result.metrics["comparison"], seeds)


VERBS = (demo, tune, lr_find, compare, inspect, evaluate, predict, compress, export)
