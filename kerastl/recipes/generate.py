"""`generate`: what a language model writes after a prompt."""

from collections.abc import Sequence
from typing import Any

from kerastl._base.types import PathLike
from kerastl.recipes.run_folder import Progress, Silent
from kerastl.tasks.settings import GenerateSettings
from kerastl.tasks.writing import Writer, read_examples


def generate(
    model: PathLike,
    prompts: str | Sequence[str],
    *,
    examples: PathLike | None = None,
    settings: GenerateSettings | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """What a causal language model writes after each prompt.

    Args:
        model: The run folder of a language model that was tuned, or what
            `backbones.load_causal` takes: a preset by its name or its folder.
        prompts: String, or a sequence of strings; `tasks.read_prompts` reads them from a file.
        examples: Path of a `.jsonl` with `prompt` and `response` (or `completion`), which are put
            before each prompt, a blank line after each.
        settings: `GenerateSettings`. None makes them from `options`.
        progress: Object with the methods of `run_folder.Silent`; None for silence.
        **options: Fields of `GenerateSettings`, such as `sampler="top_p", temperature=0.8`.

    Returns:
        List of dicts, one a prompt: `prompt`; `continuation`, what follows it; `is_whole`,
        whether the model ended it, and not the length.

    Raises:
        ValueError: For settings, a model or prompts that cannot be used, such as a prompt longer
            than the model reads.
        FileNotFoundError: If a file does not exist.

    Example:
        >>> generate("gpt2_base_en", "Once upon a time")  # doctest: +SKIP
        [{'prompt': 'Once upon a time', 'continuation': ..., 'is_whole': False}]
    """
    settings = GenerateSettings.of(settings, options)
    progress = progress or Silent()
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not prompts:
        raise ValueError("To write needs a prompt. Received: none")
    before = [] if examples is None else read_examples(examples)
    progress.stage("Loading the model")
    writer = Writer(model, settings)
    ready = writer.ids(prompts, before)
    progress.stage("Writing", total=len(prompts))
    written = writer.write(ready, progress.count)
    return [
        {"prompt": prompt, "continuation": made.text, "is_whole": made.is_whole}
        for prompt, made in zip(prompts, written, strict=True)
    ]
