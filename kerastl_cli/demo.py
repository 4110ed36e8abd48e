"""`kerastl demo`."""

import click

from kerastl_cli.output import metrics_table, percent, print_json, print_table
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(short_help="Glyphs to handwritten digits, offline.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Runs with different labelled pictures and starting weights.",
)
@click.option("--out", type=click.Path(), help="Run folder.  [default: a new one in saved_models]")
@click.option("--overwrite", is_flag=True, help="Replace an earlier run at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def demo(seeds, out, overwrite, as_json):
    """Show the main job offline: rendered glyphs to handwritten digits, ten labels a class.

    A small network that was pretrained on letters and digits drawn with fonts is fine-tuned on
    100 handwritten digits and compared with the same network trained from scratch on them.
    """
    start_tensorflow()
    from kerastl.recipes import run_demo

    with Progress() as progress:
        result = run_demo(out, seeds=seeds, progress=progress, overwrite=overwrite)
    if as_json:
        print_json({**result.metrics, "folder": str(result.folder)})
        return
    metrics_table(result.metrics, result.folder)
    comparison = result.metrics["comparison"]
    print_table(
        f"{comparison['num_labels']} labelled digits, {seeds} seeds, accuracy on "
        f"{comparison['num_test']} others",
        ("", "mean", "± std", "each seed"),
        [
            (name, percent(row["mean"]), percent(row["std"]), " ".join(map(percent, row["each"])))
            for name, row in comparison["accuracy"].items()
        ],
    )
