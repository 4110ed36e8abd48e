"""How texts become the rows of a language model: plain data, saved with a run."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import backbones
from kerastl._base import checks
from kerastl.data.texts.line_rows import LinePiece, LineRows, cut_exchange, cut_running, packed_rows
from kerastl.data.texts.lines import Document
from kerastl.tasks.device_texts import FOLDER
from kerastl.tasks.line_examples import LineExamples
from kerastl.tasks.next_token import SAYS
from kerastl.tasks.prepare_ids import PrepareIds
from kerastl.tasks.protocols import DeviceForm, S, TaskData

NOUN = "rows of text"
NO_FILES = (
    "A language model is not written as a .tflite and not made smaller here. kerastl export RUN "
    "--format huggingface writes files that other programs read."
)


@dataclasses.dataclass(frozen=True)
class PrepareLines(PrepareIds):
    """Texts to rows of ids, each with the id after it.

    Args:
        tokens: `backbones.Tokens` of a causal language model.
        length: Int > 0, ids of a row at most.
        packed: Boolean, whether the model is told which document each id is of, so that several
            can share a row.
    """

    tokens: backbones.Tokens
    length: int
    packed: bool = False
    kind = "lines"
    noun = NOUN

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs of a model that takes what this gives."""
        return "token_ids", "padding_mask", *(("documents",) * self.packed)

    def pieces(
        self, documents: Sequence[Document], ids: Mapping[str, np.ndarray]
    ) -> "tuple[list[LinePiece], Fitted]":
        """The documents as pieces that fit into a row, and what was cut for that.

        Args:
            documents: Sequence of `Document`.
            ids: Dict from the text of each of their parts to its ids.
        """
        found, cut, dropped = [], 0, []
        for document in documents:
            parts = [(ids[text], _size(text, learnt)) for text, learnt in document.parts]
            if all(learnt for _, learnt in document.parts):
                whole = self._whole([part for part, _ in parts], document.ends)
                num_bytes = sum(size for _, size in parts)
                found += cut_running(whole, length=self.length, num_bytes=num_bytes)
                continue
            around = {"start": start_of(self.tokens), "end": self.tokens.end, "length": self.length}
            piece, is_cut = cut_exchange(parts, **around)
            if piece is None:
                dropped.append(document.place)
            else:
                found.append(piece)
                cut += is_cut
        return found, Fitted(cut, tuple(dropped))

    def examples(self, pieces: Sequence[LinePiece], *, packs: bool = False) -> LineExamples:
        """`LineExamples` of pieces, a row each; with `packs` as few rows as they fit into."""
        rows = [[piece] for piece in pieces]
        if packs:
            shared = packed_rows([len(piece.ids) for piece in pieces], self.length)
            rows = [[pieces[number] for number in row] for row in shared]
        made = LineRows.of(rows, pad=self.tokens.pad, longest=self.length, documents=self.packed)
        targets = [
            (sum(piece.weights.sum() for piece in row), sum(piece.num_bytes for piece in row))
            for row in rows
        ]
        return LineExamples(made, np.array(targets, np.float64).reshape(-1, 2))

    def _whole(self, parts, ends):
        whole = np.concatenate([start_of(self.tokens), *parts, self.tokens.end if ends else ()])
        return whole.astype(np.int32)

    def __call__(self, raw: Any) -> Any:
        """Refused: a language model has no answer to an example.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{SAYS}. Received: {len(raw)} examples")

    def find(self, paths: Any) -> list[Any]:
        """Refused: a language model has no answer to an example.

        Raises:
            ValueError: Always.
        """
        told = [paths] if isinstance(paths, (str, pathlib.Path)) else paths
        raise ValueError(f"{SAYS}. Received: {checks.listed(told, 3)}, to answer")

    def named(self, raw: Any) -> dict[str, str]:
        """What a text is called in an answer: itself."""
        return {"text": raw}

    def settled(self, settings: S, model_path: pathlib.Path) -> S:
        """Refused: language models are neither compressed nor written for devices.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{NO_FILES} Received: {model_path}")

    def for_device(self, model: keras.Model, length: int | None = None) -> DeviceForm:
        """Refused, as by `settled`."""
        raise ValueError(f"{NO_FILES} Received: {model.name}")

    def device_notices(self, data: TaskData | None) -> tuple[str, ...]:
        """None: there are no device files."""
        return ()

    def of_file(self, model_path: pathlib.Path, input_shape: Any) -> "PrepareLines":
        """Refused, as by `settled`."""
        raise ValueError(f"{NO_FILES} Received: {model_path}")

    def for_network(self, inputs: Any) -> Any:
        """The `inputs` themselves."""
        return inputs

    def goes_with(self, other: Any) -> bool:
        """Whether a model of `other` can be measured on what this prepares."""
        return isinstance(other, PrepareLines) and self == other

    words = None

    def check_beside(self, folder: pathlib.Path) -> None:
        """Nothing to refuse: no file is written."""

    def write_beside(self, folder: pathlib.Path) -> None:
        """Nothing to write."""

    def check(self, model_path: pathlib.Path, input_shape: Any) -> None:
        """Refuse a model that does not take the inputs that texts become."""
        names = set(input_shape) if isinstance(input_shape, Mapping) else set()
        if names != set(self.inputs):
            raise ValueError(
                f"The model must take {checks.listed(self.inputs)}, a dict of ids as KerasHub's "
                f"language models do. Received: {model_path} with input shape {input_shape}"
            )

    def to_config(self) -> dict[str, Any]:
        return {"length": self.length, "packed": self.packed}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], folder: pathlib.Path) -> "PrepareLines":
        tokens = backbones.Tokens.load(folder / FOLDER)
        return cls(tokens, config["length"], config["packed"])

    def describe(self) -> list[tuple[str, str]]:
        """Rows for the table of a run."""
        packed = [("several texts in a row", "kept apart by a mask")] if self.packed else []
        return [("ids of a row at most", str(self.length)), *packed]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What was done so that documents fit into rows.

    Attributes:
        cut: Int, how many lost the beginning of what is to be answered.
        dropped: Tuple of the places of those of which the answer alone does not fit.
    """

    cut: int
    dropped: tuple[str, ...]


def start_of(tokens: backbones.Tokens) -> tuple[int, ...]:
    """Ids before a text: where a family has none, those that end the text before it."""
    return tokens.start or tokens.end


def _size(text, learnt):
    return len(text.encode()) if learnt else 0
