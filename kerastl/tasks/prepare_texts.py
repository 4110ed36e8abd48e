"""How texts become the ids that a network takes: plain data, saved with a run."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import backbones
from kerastl._base import checks
from kerastl.data import read_texts
from kerastl.data.texts.passes import TokenRows

NOUN = "texts"
FOLDER = "tokens"  # of a run, with the files of its tokenizer
NO_FILES = "Device files of texts are not here yet, nor their compression."


@dataclasses.dataclass(frozen=True)
class PrepareTexts:
    """Texts, or pairs of texts, to ids.

    Args:
        tokens: `backbones.Tokens`.
        length: Int > 0, ids of an example at most, those around it included.
        num_parts: 1 for texts, 2 for pairs.
    """

    tokens: backbones.Tokens
    length: int
    num_parts: int = 1
    kind = "texts"
    noun = NOUN

    @classmethod
    def for_backbone(cls, backbone: str, length: int) -> "PrepareTexts":
        """`PrepareTexts` of single texts for the network that `backbones.load` knows by a name."""
        return cls(backbones.load_tokens(backbone), length)

    @property
    def gives(self) -> str:
        return f"ids below {self.tokens.vocabulary_size:,}"

    def rows(self, parts: Sequence[tuple[str, ...]]) -> TokenRows:
        """`TokenRows` of texts, each a tuple of `num_parts` strings."""
        return self.of_ids([self.tokens.ids([part[i] for part in parts]) for i in self._places])

    def of_ids(self, ids: Sequence[Sequence[np.ndarray]]) -> TokenRows:
        """`TokenRows` of the ids of texts, a list for each of the `num_parts`."""
        tokens, around = self.tokens, around_of(self.tokens, self.num_parts)
        second = ids[1] if self.num_parts > 1 else None
        return TokenRows(ids[0], second, tokens.pack, tokens.inputs, around, self.length)

    @property
    def _places(self):
        return range(self.num_parts)

    def __call__(self, raw: Any) -> dict[str, np.ndarray]:
        """Dict of int32 arrays for texts, padded to the longest of them.

        Raises:
            ValueError: If a text has no ids.
        """
        rows = self.rows([tuple(parts) for parts in raw])
        if empty := [i for i, ids in enumerate(rows.ids) if not len(ids)]:
            raise ValueError(
                "Every text must have something that the vocabulary knows. Received: "
                f"{raw[empty[0]]!r}"
            )
        return rows.padded(np.arange(len(rows.ids)))

    def in_range(self, input_range: Sequence[float]) -> "PrepareTexts":
        """Refused: ids have no range to choose.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "`input_range` is for models of pictures, and this one takes texts. "
            f"Received: input_range={tuple(input_range)}"
        )

    def check_range(
        self, model_path: pathlib.Path, model: keras.Model, inputs: Any, asked: bool
    ) -> str | None:
        """None: a vocabulary is written down with the run."""
        return None

    def check_backbone(self, model: keras.Model, inputs: Any) -> None:
        """Refuse a backbone that has no embedding for some of the ids, or takes other inputs."""
        self.tokens.check_fits(model)
        self.check(pathlib.Path(model.name), shapes_of(model))

    def question(self, model_path: pathlib.Path) -> str:
        """What is missing of a model that nobody wrote down the vocabulary of."""
        return f"{model_path} takes ids, and nothing says of which words."

    def check_file_range(self, model_path: pathlib.Path, taken: Any) -> None:
        """Nothing to refuse."""

    def check_training(self, model_path: pathlib.Path) -> None:
        """Nothing to refuse."""

    def check_device_file(self, model_path: pathlib.Path) -> None:
        """Refused: there are none of texts yet.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{NO_FILES} Received: {model_path}, which takes texts")

    def find(self, paths: Any) -> list[tuple[str, ...]]:
        """The texts in files: one a line of a `.txt`, or those of tables; see `read_texts`."""
        files = [paths] if isinstance(paths, (str, pathlib.Path)) else list(paths)
        return [parts for path in files for parts in read_texts(path, self.num_parts)]

    def named(self, raw: tuple[str, ...]) -> dict[str, str]:
        """What says in an answer which example it is about."""
        if len(raw) == 1:
            return {"text": raw[0]}
        return {"text_a": raw[0], "text_b": raw[1]}

    def check(self, model_path: pathlib.Path, input_shape: Any) -> None:
        """Refuse a model that does not take the inputs that texts become."""
        names = set(input_shape) if isinstance(input_shape, Mapping) else set()
        if names != set(self.tokens.inputs):
            raise ValueError(
                f"The model must take {checks.listed(self.tokens.inputs)}, a dict of ids as "
                f"KerasHub's networks of texts do. Received: {model_path} with input shape "
                f"{input_shape}"
            )

    def to_config(self) -> dict[str, Any]:
        return {"length": self.length, "num_parts": self.num_parts}

    def write(self, folder: pathlib.Path) -> None:
        """Write into the folder of a run what `from_config` reads there."""
        self.tokens.save(folder / FOLDER)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], folder: pathlib.Path) -> "PrepareTexts":
        tokens = backbones.Tokens.load(folder / FOLDER)
        return cls(tokens, config["length"], config["num_parts"])

    def describe(self) -> list[tuple[str, str]]:
        """Rows for the table of a run."""
        return [("ids of a text at most", str(self.length))]


def shapes_of(model: keras.Model) -> Any:
    """The shape of the input of `model`; of several with names, a dict of them.

    `input_shape` alone has lost the names.
    """
    # A Sequential has one input, and no `input` before its first call.
    inputs: Any = None if isinstance(model, keras.Sequential) else model.input
    if isinstance(inputs, Mapping):
        return {name: tuple(tensor.shape) for name, tensor in inputs.items()}
    return model.input_shape


def around_of(tokens: backbones.Tokens, num_parts: int) -> int:
    """How many ids are packed around those of a text, or of a pair."""
    return len(tokens.start) + len(tokens.end) + (len(tokens.between) if num_parts > 1 else 0)
