"""`predict`: what a model or device file says of new examples."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kerastl._base import checks
from kerastl._base.types import PathLike
from kerastl.recipes.device_files import PART
from kerastl.recipes.finished import load_predictor
from kerastl.recipes.run_folder import Progress, Silent


def predict(
    model: PathLike,
    files: str | Path | Iterable[PathLike],
    *,
    top: int = 3,
    input_range: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """What a model says of each example among `files`.

    Args:
        model: A run folder, a `.keras` or a `.tflite` file.
        files: Path, or an iterable of paths, of examples and of folders of them.
        top: Int > 0, how many classes or labels to name for each.
        input_range: As in `evaluate`.
        progress: Object with the methods of `run_folder.Silent`; None for silence.

    Returns:
        List of dicts, one an example, each with its `file` and: of classes `top`, the best
        `{"label", "probability"}` first; of several labels `labels`, those with a probability of
        1/2 or more, and `top`; of a number `value`. `sentence` is the same for a person.

    Raises:
        FileNotFoundError: If the model or a path does not exist.
        ValueError: If it is no model, or a file cannot be read.

    Example:
        >>> answer, *_ = predict(run, pictures / "dark", top=1)
        >>> answer["top"][0]["label"]
        'dark'
    """
    checks.whole(top, 1, 10**6, "top")
    progress = progress or Silent()
    progress.stage("Loading the model")
    predictor = load_predictor(model, input_range)
    known = predictor.trained_for
    progress.stage(f"Reading {known.prepare.noun} and answering")
    paths = known.prepare.find(files)
    said = []
    for start in range(0, len(paths), PART):
        part = paths[start : start + PART]
        inputs = known.prepare(part)
        if not start and (question := predictor.check_range(inputs)):
            warnings.warn(question, stacklevel=2)
        outputs = predictor.predict(inputs)
        for path, output in zip(part, outputs, strict=True):
            answer = known.objective.answer(output, known.outputs or (), top)
            sentence = known.objective.sentence(answer)
            said.append({**known.prepare.named(path), **answer, "sentence": sentence})
        progress.count(len(said), len(paths))
    return said
