"""A network of texts as its device file takes it: one text of a fixed length, by other names.

The names and their order are those of MediaPipe's TextClassifier. It wants all three, so a
WordPiece network that has no use for one of them takes it all the same, and nothing of it.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerastl import backbones
from kerastl._base import checks
from kerastl.backbones import vocabularies
from kerastl.graph import flatten

NAMES = {"token_ids": "ids", "padding_mask": "mask", "segment_ids": "segment_ids"}
LADDERS = {
    "float16": ("float16",),
    "dynamic": ("dynamic", "float16"),
    "int8": ("int8", "dynamic", "float16"),
}
QUANTIZED = "dynamic"  # smaller and faster than float32; int8 of encoders is slower than that
RATE = 1e-4  # to train all of an encoder by, where `compress` has 0.003 for other networks
FOLDER = "tokens"  # beside a model, with the files of its tokenizer


def names_for(tokens: backbones.Tokens) -> tuple[str, ...]:
    """What the inputs of a device file are called, in their order."""
    if vocabularies.word_pieces(tokens) is not None:
        return tuple(NAMES.values())
    return tuple(NAMES[name] for name in NAMES if name in tokens.inputs)


@dataclasses.dataclass(frozen=True)
class DevicePack:
    """`Tokens.pack` under the names of a device file; see `data.texts.TokenRows.pack`."""

    tokens: backbones.Tokens
    names: tuple[str, ...]

    def __call__(
        self,
        ids: Sequence[np.ndarray],
        length: int,
        *,
        second: Sequence[np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        packed = self.tokens.pack(ids, length, second=second)
        called = {NAMES[name]: array for name, array in packed.items()}
        unused = np.zeros((len(ids), length), "int32")
        return {name: called.get(name, unused) for name in self.names}


def device_network(
    model: keras.Model, tokens: backbones.Tokens, names: Sequence[str], length: int
) -> keras.Model:
    """`model` on the inputs of its device file, one flat graph that shares its weights."""
    inputs = {name: keras.Input((length,), dtype="int32", name=name) for name in names}
    given = {name: inputs[NAMES[name]] for name in tokens.inputs}
    return flatten(keras.Model(inputs, model(given), name=model.name))


def check_length(model: keras.Model, length: int, least: int) -> None:
    """Refuse a length of texts that leaves no room, or that the network has no positions for.

    Raises:
        ValueError: If it is such.
    """
    longest = backbones.max_length(model)
    if length < least or (longest is not None and length > longest):
        most = "" if longest is None else f" and at most {longest}, the positions of the network"
        raise ValueError(
            f"`length` (--length) must be at least {least}, what is around a text and something "
            f"of it{most}. Received: length={length}"
        )


def settled(settings: Any, model_path: pathlib.Path) -> Any:
    """`settings` of `compress` or `export` as they are for texts.

    Raises:
        ValueError: If one is given that texts have no use for; says why.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name, reason in _OF_OTHERS.items():
        if name in defaults and getattr(settings, name) not in (defaults[name], "none"):
            raise ValueError(
                f"`{name}` (--{name.replace('_', '-')}) {reason}. Received: "
                f"{name}={getattr(settings, name)!r} for {model_path}, which takes texts"
            )
    given: dict[str, Any] = {}
    if "augment" in defaults:
        given["augment"] = "none"
        if settings.learning_rate is None:
            given["learning_rate"] = RATE
    if "quantize" in defaults:
        if settings.quantize == "int16x8":
            raise ValueError(
                "`quantize='int16x8'` (--quantize) is for networks of pictures: the converter "
                "finds no range for ids. Pass 'dynamic', 'int8' or 'float16'. Received: "
                f"quantize='int16x8' for {model_path}, which takes texts"
            )
        plain = settings.format == "litert"
        given["quantize"] = settings.quantize or (QUANTIZED if plain else "none")
    return dataclasses.replace(settings, **given)


# Of the settings of `compress` and `export`, by name and with the reason.
_OF_OTHERS = {
    "input_range": "is for pictures: ids have no range to choose",
    "io_dtype": "is for pictures: ids are int32, and nothing is gained by smaller answers",
    "cache_dir": "is for pictures: ids of texts fit in memory",
    "augment": "is for pictures: texts are read as they are",
    "prune_channels": "is for networks of convolutions and dense layers: the heads of an encoder "
    "lie inside composite layers, where no channel can be taken from one of them alone",
    "qat": "is for networks of convolutions and dense layers: an encoder's blocks are composite "
    "layers, in which nothing can learn to round",
}


def check_beside(tokens: backbones.Tokens, folder: pathlib.Path) -> None:
    """Refuse a folder for a device file where another vocabulary lies that it would be read by.

    Raises:
        FileExistsError: If one does.
    """
    there = folder / FOLDER
    if vocabularies.word_pieces(tokens) is not None or not there.exists():
        return
    if not vocabularies.are_alike(backbones.Tokens.load(there), tokens):
        raise FileExistsError(
            f"{there} holds another vocabulary than the model's, which must lie beside its file. "
            "Choose another folder with --out."
        )


def write_beside(tokens: backbones.Tokens, folder: pathlib.Path, length: int) -> None:
    """Write the files that texts are read with and that are not inside, where they are not yet."""
    if vocabularies.word_pieces(tokens) is not None:
        return
    if not (folder / FOLDER).exists():
        tokens.save(folder / FOLDER)
    for name, content in vocabularies.files_for_apps(tokens, length).items():
        (folder / name).write_bytes(content)


def notices(
    tokens: backbones.Tokens, num_parts: int, texts: Sequence[tuple[str, ...]] | None
) -> tuple[str, ...]:
    """What whoever puts a device file into an app must know: a sentence each.

    Args:
        tokens: `Tokens`.
        num_parts: Int, texts an example.
        texts: Examples held out, to count those that MediaPipe reads otherwise; or None.
    """
    if vocabularies.word_pieces(tokens) is None:
        files = vocabularies.files_for_apps(tokens, 64)
        by_apps = f", and an app {checks.listed(list(files))}" if files else ""
        return (
            f"The vocabulary of {type(tokens.tokenizer).__name__} is not inside the file, as only "
            f"WordPiece can be: `kerastl predict` needs {FOLDER}/ beside it{by_apps}. MediaPipe's "
            "TextClassifier does not read such texts.",
        )
    if num_parts > 1:
        return (
            "MediaPipe's TextClassifier gives one text at a time, and this file takes pairs: an "
            "app packs the two by itself.",
        )
    if vocabularies.is_cased(tokens):
        return (
            "The vocabulary tells capitals from small letters, and MediaPipe's TextClassifier "
            "lower-cases ASCII letters always: texts with capitals are read otherwise there.",
        )
    return _of_accents(tokens, texts)


def _of_accents(tokens, texts):
    where = "texts with accents, or with capitals beyond ASCII, are read otherwise there"
    if texts is not None:
        differing = len(vocabularies.differing_in_mediapipe(tokens, [one for (one,) in texts]))
        if not differing:
            return ()
        where = f"{differing} of the {len(texts)} texts held out are read otherwise there"
    return (
        f"MediaPipe's TextClassifier lower-cases ASCII letters alone and keeps accents: {where}.",
    )
