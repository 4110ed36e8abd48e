"""`kerastl predict MODEL FILES`."""

import click

from kerastl_cli.output import percent, print_json, print_table
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(short_help="Name what is in pictures.")
@click.argument("model", type=click.Path())
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many classes to name for each picture.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def predict(model, files, top, as_json):
    """Name what is in the pictures FILES (or in the folders among them).

    MODEL is a run folder, a .keras or a .tflite file; labels.txt is looked for beside it.
    """
    start_tensorflow()
    from kerastl.recipes.finished import load_predictor, predict_files

    with Progress() as progress:
        progress.stage("Loading the model")
        predictor = load_predictor(model)
        progress.stage("Reading and classifying pictures")
        found = predict_files(predictor, files, top=top, progress=progress.count)
    if as_json:
        print_json({"model": str(model), "predictions": found})
        return
    rows = [
        (item["file"], "  ".join(f"{c['label']} {percent(c['probability'])}" for c in item["top"]))
        for item in found
    ]
    print_table(str(model), ("picture", "classes"), rows)
