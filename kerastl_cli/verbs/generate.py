"""`kerastl generate`: have a language model write on."""

from typing import Any

import click

from kerastl_cli import output
from kerastl_cli.options import json_option, options_of, settings
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Have a language model write on.",
    epilog='Example: kerastl generate saved_models/stories-gpt2_base_en --prompt "Once upon"',
)
@click.argument("model", type=click.Path())
@click.option("--prompt", "given", multiple=True, help="What to go on from; may be repeated.")
@click.option("--prompts", "file", type=click.Path(), help=".txt or .jsonl file of prompts.")
@click.option(
    "--examples",
    type=click.Path(),
    help=".jsonl with prompt and response, to put before each prompt.",
)
@options_of(settings.GenerateSettings)
@json_option
def generate(
    model: str,
    given: tuple[str, ...],
    file: str | None,
    examples: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Have MODEL write on from prompts.

    MODEL is the run folder of a language model, or a preset by its name or folder.
    """
    if not given and file is None:
        raise click.UsageError("Say what to go on from: --prompt TEXT, or --prompts FILE.")
    start_tensorflow()
    from kerastl import generate as run
    from kerastl.tasks import read_prompts

    prompts = [*given, *([] if file is None else read_prompts(file))]
    with Progress() as progress:
        found = run(model, prompts, examples=examples, progress=progress, **options)
    if as_json:
        output.print_json({"model": str(model), "continuations": found})
        return
    output.print_continuations(found)
