"""`kerastl demo`: the main job, offline."""

import click

from kerastl_cli import output
from kerastl_cli.options import out_options
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(short_help="Glyphs to handwritten digits, or prose to authors, offline.")
@click.option("--texts", is_flag=True, help="Who wrote it: the demo of texts.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Runs with different labelled examples and starting weights.",
)
@out_options()
def demo(texts: bool, seeds: int, out: str | None, overwrite: bool, as_json: bool) -> None:
    """Show the main job offline: rendered glyphs to handwritten digits, ten labels a class.

    A small network that was pretrained on letters and digits drawn with fonts is fine-tuned on
    100 handwritten digits and compared with the same network trained from scratch on them.

    With --texts, a small encoder that was pretrained on two authors' books is to say which of them
    wrote a sentence, from 20 of each, beside TF-IDF and the same network from scratch.
    """
    start_tensorflow()
    from kerastl import run_demo, run_text_demo

    run = run_text_demo if texts else run_demo
    with Progress() as progress:
        result = run(out, seeds=seeds, progress=progress, overwrite=overwrite)
    if as_json:
        output.print_json({**result.metrics, "folder": str(result.folder)})
        return
    output.metrics_table(result.metrics, result.folder)
    output.contestants_table(result.metrics["comparison"], seeds)
