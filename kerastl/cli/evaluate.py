"""`kerastl evaluate MODEL DATA`."""

import click

from kerastl.cli.output import percent, print_json, print_table
from kerastl.cli.progress import Progress
from kerastl.cli.start import start_tensorflow


@click.command(short_help="Measure a model or .tflite on a folder of pictures.")
@click.argument("model", type=click.Path())
@click.argument("data", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(model, data, as_json):
    """Measure MODEL on the pictures in DATA.

    MODEL is a run folder, a .keras or a .tflite file; labels.txt is looked for beside it. DATA is
    a folder of class folders. Where it holds test/ (or val/), only that is used.
    """
    start_tensorflow()
    from kerastl.tune.inference import evaluate_folder, load_predictor

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
    rows = [
        (name, percent(found["recall"]), found["num_examples"])
        for name, found in report["per_class"].items()
    ]
    rows.append(("all", percent(report["accuracy"]), report["num_examples"]))
    print_table(f"{model} on {report['data']}", ("class", "right", "pictures"), rows)
