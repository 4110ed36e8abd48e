"""`kerastl tune`: fine-tune a pretrained network on a folder or a table."""

from typing import Any

import click

from kerastl_cli import output
from kerastl_cli.options import options_of, out_options, settings
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Fine-tune a pretrained network on your data.",
    epilog="Example: kerastl tune flowers/ --backbone efficientnet_b0 --minutes 5 --export int8",
)
@click.argument("data", type=click.Path())
@options_of(settings.TuneSettings)
@out_options()
def tune(data: str, out: str | None, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Fine-tune a pretrained network on the pictures or texts in DATA.

    DATA is a folder of class folders, or one with train/ and val/ or test/ in it; or a table
    (.csv, .tsv, or a folder with a labels.csv in it) with the columns file and label (a class),
    labels (any number of them, red|round) or value (a number). Of texts it is a table (.csv, .tsv,
    .jsonl, or a folder with files train and val or test) with the column text, or text_a and
    text_b, in place of file. To learn to write it is a .txt, a folder of them, or a .jsonl of
    prompt and response, or of messages; --backbone is then a language model, which is trained on
    from where it is, and the folder preset in the run holds it for kerastl generate.

    The head begins as a regression on frozen features, the probe. By default, --strategy auto, ways
    to train further are compared with it on training examples that are held back, and the better
    one is kept; --strategy probe trains nothing; --strategy lora and adapters train a few weights
    beside layers that stand still.

    The run folder holds model.keras, model.tflite, labels.txt, task.json, plan.json, config.json,
    metrics.json and, if anything was trained, curves.png; of lora and adapters also
    adapters.adapter, what was trained by itself; that of lora is merged in the others. Model and
    file take RGB pixels 0 to 255; of texts, ids of the words in tokens/, and the file one text of a
    fixed length.
    A run that was stopped goes on when the same command is given again.
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
