"""The words of a tokenizer inside a file, for the app that has to split text as in training."""

import os
from collections.abc import Sequence

from kerastl._base import files as disk
from kerastl._base.types import PathLike
from kerastl.export import metadata
from kerastl.export.litert_model import LiteRTModel


def add_vocabulary(path: PathLike, words: Sequence[str]) -> str:
    """Put a tokenizer's vocabulary into a LiteRT file, as TFLite metadata of its first input.

    The labels that the file carries stay, and its `task.json`. It is written anew and put in place
    whole.

    Args:
        path: The file, as `to_litert` wrote it.
        words: Sequence of strings in the order of their numbers, one line each; of a KerasHub
            tokenizer `tokenizer.get_vocabulary()`.

    Returns:
        String, the path.

    Raises:
        ValueError: If there are no words, or one is no line of text.

    Example:
        >>> add_vocabulary("moved.tflite", ["[PAD]", "[UNK]"])
        Traceback (most recent call last):
        FileNotFoundError: `path` must be a .tflite file that exists. Received: 'moved.tflite'
    """
    lite = LiteRTModel(path)
    added = metadata.vocabulary_file(tuple(words))
    with open(lite.path, "rb") as file:
        content = file.read()
    files = [added]
    named = metadata.read_labels(content)
    if named:
        files.append(metadata.label_file(named))
    if (task := metadata.read_task(content)) is not None:
        files.append(metadata.task_file(task))
    with disk.work_folder(lite.path) as work:
        made = os.path.join(work, "model.tflite")
        with open(made, "wb") as file:
            file.write(
                metadata.embedded(
                    content,
                    lite.inputs,
                    lite.outputs,
                    name=metadata.read_name(content) or "model",
                    pixels=metadata.read_pixels(content),
                    files=files,
                )
            )
        disk.replaced(made, lite.path)
    return lite.path
