"""How texts become the ids that a network takes: plain data, saved with a run."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import backbones
from kerastl._base import checks
from kerastl.backbones import vocabularies
from kerastl.data import read_texts
from kerastl.data.texts.passes import TokenRows
from kerastl.tasks import device_texts
from kerastl.tasks.device_texts import FOLDER
from kerastl.tasks.prepare_ids import PrepareIds
from kerastl.tasks.protocols import DeviceForm, S, TaskData

NOUN = "texts"


@dataclasses.dataclass(frozen=True)
class PrepareTexts(PrepareIds):
    """Texts, or pairs of texts, to ids.

    Args:
        tokens: `backbones.Tokens`.
        length: Int > 0, ids of an example at most, those around it included.
        num_parts: 1 for texts, 2 for pairs.
        on_device: Boolean, whether the ids are for a device file: of one length, by other names.
    """

    tokens: backbones.Tokens
    length: int
    num_parts: int = 1
    on_device: bool = False
    kind = "texts"
    noun = NOUN

    @classmethod
    def for_backbone(cls, backbone: str, length: int) -> "PrepareTexts":
        """`PrepareTexts` of single texts for the network that `backbones.load` knows by a name."""
        return cls(backbones.load_tokens(backbone), length)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that texts become."""
        return device_texts.names_for(self.tokens) if self.on_device else self.tokens.inputs

    def rows(self, parts: Sequence[tuple[str, ...]]) -> TokenRows:
        """`TokenRows` of texts, each a tuple of `num_parts` strings."""
        return self.of_ids([self.tokens.ids([part[i] for part in parts]) for i in self._places])

    def of_ids(self, ids: Sequence[Sequence[np.ndarray]]) -> TokenRows:
        """`TokenRows` of the ids of texts, a list for each of the `num_parts`."""
        tokens, around = self.tokens, around_of(self.tokens, self.num_parts)
        second = ids[1] if self.num_parts > 1 else None
        pack = device_texts.DevicePack(tokens, self.inputs) if self.on_device else tokens.pack
        return TokenRows(ids[0], second, pack, self.inputs, around, self.length, self.on_device)

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

    def settled(self, settings: S, model_path: pathlib.Path) -> S:
        """`settings` of `compress` or `export` as they are for texts; see `device_texts.settled`.

        Raises:
            ValueError: If one is given that texts have no use for.
        """
        return device_texts.settled(settings, model_path)

    def for_device(self, model: keras.Model, length: int | None = None) -> DeviceForm:
        """`DeviceForm` of a network of texts: one text of `length` ids, as long as the run's if
        that is None."""
        prepare = dataclasses.replace(self, length=length or self.length, on_device=True)
        least = around_of(self.tokens, self.num_parts) + self.num_parts
        device_texts.check_length(model, prepare.length, least)
        return DeviceForm(
            device_texts.device_network(model, self.tokens, prepare.inputs, prepare.length),
            prepare,
            device_texts.LADDERS,
            device_texts.QUANTIZED,
            slower=False,
            carries=True,
        )

    def device_notices(self, data: TaskData | None) -> tuple[str, ...]:
        """What whoever puts a device file into an app must know, with `data` to count in."""
        examples: Any = data and data.test
        return device_texts.notices(self.tokens, self.num_parts, data and examples.parts)

    def of_file(self, model_path: pathlib.Path, input_shape: Any) -> "PrepareTexts":
        """The same for the device file at `model_path`, whose inputs have the length of texts."""
        prepare = dataclasses.replace(self, on_device=True)
        prepare.check(model_path, input_shape)
        return dataclasses.replace(prepare, length=input_shape["ids"][-1])

    def for_network(self, inputs: Any) -> Any:
        """What the network itself takes of the `inputs` of its device file."""
        if not self.on_device:
            return inputs
        return {name: inputs[device_texts.NAMES[name]] for name in self.tokens.inputs}

    def goes_with(self, other: Any) -> bool:
        """Whether a model of `other` can be measured on what this prepares."""
        if not isinstance(other, PrepareTexts) or self.num_parts != other.num_parts:
            return False
        same = not other.on_device or (self.on_device and self.length == other.length)
        return same and vocabularies.are_alike(self.tokens, other.tokens)

    @property
    def words(self) -> tuple[str, ...] | None:
        """The vocabulary for the inside of a device file, or None where it lies beside that."""
        told = self.on_device and vocabularies.word_pieces(self.tokens)
        return tuple(self.tokens.tokenizer.get_vocabulary()) if told else None

    def check_beside(self, folder: pathlib.Path) -> None:
        """Refuse a folder for a device file in which another vocabulary lies."""
        device_texts.check_beside(self.tokens, folder)

    def write_beside(self, folder: pathlib.Path) -> None:
        """Write beside a device file what it does not carry inside."""
        device_texts.write_beside(self.tokens, folder, self.length)

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
        if names != set(self.inputs):
            whose = "device files of kerastl" if self.on_device else "KerasHub's networks of texts"
            raise ValueError(
                f"The model must take {checks.listed(self.inputs)}, a dict of ids as {whose} do. "
                f"Received: {model_path} with input shape {input_shape}"
            )

    def to_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"length": self.length, "num_parts": self.num_parts}
        if self.on_device:
            config["word_pieces"] = vocabularies.word_pieces(self.tokens)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], folder: pathlib.Path) -> "PrepareTexts":
        tokens = backbones.Tokens.load(folder / FOLDER)
        return cls(tokens, config["length"], config["num_parts"])

    @classmethod
    def inside(
        cls, config: Mapping[str, Any], words: Sequence[str] | None, model_path: pathlib.Path
    ) -> "PrepareTexts":
        """What `to_config` told, and `words`, inside the device file at `model_path`.

        Raises:
            FileNotFoundError: If the vocabulary is not inside, nor beside the file.
        """
        pieces, folder = config["word_pieces"], model_path.parent / FOLDER
        if pieces is not None and words is not None:
            tokens = vocabularies.of_word_pieces(words, pieces)
        elif folder.is_dir():
            tokens = backbones.Tokens.load(folder)
        else:
            raise FileNotFoundError(
                f"{model_path} takes texts, and its vocabulary is not inside: the folder {FOLDER} "
                f"of its run must lie beside it. Received: no {folder}"
            )
        return cls(tokens, config["length"], config["num_parts"], on_device=True)

    def describe(self) -> list[tuple[str, str]]:
        """Rows for the table of a run."""
        return [("ids of a text at most", str(self.length))]


def around_of(tokens: backbones.Tokens, num_parts: int) -> int:
    """How many ids are packed around those of a text, or of a pair."""
    return len(tokens.start) + len(tokens.end) + (len(tokens.between) if num_parts > 1 else 0)
