"""`kerastl predict`: say what is in new examples."""

import click

from kerastl_cli import output
from kerastl_cli.options import input_range_option, json_option
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow

SHOWN = 60  # letters of a text


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
@input_range_option
@json_option
def predict(
    model: str,
    files: tuple[str, ...],
    top: int,
    input_range: tuple[float, float] | None,
    as_json: bool,
) -> None:
    """Say what MODEL sees in FILES (or in the files of the folders among them).

    Of texts, FILES are .txt files with one a line, or tables with the column text.

    MODEL is a run folder, a .keras or a .tflite file; task.json and labels.txt are looked for
    beside it.
    """
    start_tensorflow()
    from kerastl import predict as run

    with Progress() as progress:
        found = run(model, files, top=top, input_range=input_range, progress=progress)
    if as_json:
        output.print_json({"model": str(model), "predictions": found})
        return
    what = "file" if found and "file" in found[0] else "text"
    rows = [(_shown(answer), answer["sentence"]) for answer in found]
    output.print_table(str(model), (what, ""), rows)


def _shown(answer):
    """The file, or the beginning of the text or of both of a pair, that `answer` is about."""
    if "file" in answer:
        return answer["file"]
    parts = [answer[name] for name in ("text", "text_a", "text_b") if name in answer]
    return " | ".join(part if len(part) <= SHOWN else f"{part[:SHOWN]}…" for part in parts)
