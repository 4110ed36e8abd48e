"""`kerastl evaluate MODEL DATA`."""

import click

from kerastl_cli.output import files_table, percent, print_json, print_table
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Measure a model or .tflite on a folder of pictures.",
    epilog="Example: kerastl evaluate saved_models/flowers-mobilenet_v2/model.tflite flowers/",
)
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(model, data, as_json):
    """Measure MODEL on the pictures in DATA.

    MODEL is a run folder, a .keras or a .tflite file; labels.txt is looked for beside it. DATA is
    a folder of class folders. Where it holds test/ (or val/), only that is used. Of a .tflite the
    size and the time for a picture are told too, beside those of the model.keras and float.tflite
    that lie with it.
    """
    start_tensorflow()
    from kerastl.recipes.evaluate import evaluate_folder
    from kerastl.recipes.finished import load_predictor

    with Progress() as progress:
        progress.stage("Loading the model")
        predictor = load_predictor(model)
        progress.stage("Reading and classifying pictures")
        report = evaluate_folder(predictor, data, progress=progress.count)
    if as_json:
        print_json(report)
        return
    for file in report["skipped"]:
        click.echo(f"Skipped: {file['file']} ({file['reason']})", err=True)
    for notice in report["notices"]:
        click.echo(f"Note: {notice}", err=True)
    rows = [
        (name, percent(found["recall"]), found["num_examples"])
        for name, found in report["per_class"].items()
    ]
    rows.append(("all", percent(report["accuracy"]), report["num_examples"]))
    print_table(f"{model} on {report['data']}", ("class", "right", "pictures"), rows)
    if report["files"]:
        files_table("The same network, agreement with the row above", report["files"])
