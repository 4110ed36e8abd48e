"""`TextTable`: texts in a table as a source, and how they become ids."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import backbones
from kerastl._base import checks
from kerastl._base.types import OnProgress, PathLike
from kerastl.data.split import TEST_SHARE, stratified_split
from kerastl.data.targets import Kind, targets_of
from kerastl.data.texts.passes import TokenRows
from kerastl.data.texts.table import (
    ScannedTexts,
    find_text_tables,
    read_texts,
    scan_texts,
)
from kerastl.tasks.classification import Classification
from kerastl.tasks.multi_label import MultiLabel
from kerastl.tasks.protocols import Finer, HeldOut, Objective, Rival, S, TaskData
from kerastl.tasks.regression import Regression
from kerastl.tasks.text_examples import TextExamples
from kerastl.tasks.tf_idf import tf_idf

NOUN = "texts"
FOLDER = "tokens"  # of a run, with the files of its tokenizer
PERCENTILE = 99  # of the lengths of texts to train on; longer ones are cut
UNKNOWN = 0.01  # share of ids that the vocabulary lacks, from which on a notice says so
RATE = 1e-3  # of a head that starts at zero; encoders take a tenth of what other networks take
OBJECTIVES: dict[Kind, Objective] = {
    "class": Classification(),
    "labels": MultiLabel(),
    "value": Regression(),
}


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

    @property
    def gives(self) -> str:
        return f"ids below {self.tokens.vocabulary_size:,}"

    def rows(self, parts: Sequence[tuple[str, ...]]) -> TokenRows:
        """`TokenRows` of texts, each a tuple of `num_parts` strings."""
        return self.of_ids([self.tokens.ids([part[i] for part in parts]) for i in self._places])

    def of_ids(self, ids: Sequence[Sequence[np.ndarray]]) -> TokenRows:
        """`TokenRows` of the ids of texts, a list for each of the `num_parts`."""
        tokens = self.tokens
        around = len(tokens.start) + len(tokens.end)
        around += len(tokens.between) if self.num_parts > 1 else 0
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


class TextTable:
    """A `.csv`, `.tsv` or `.jsonl` of texts, or a folder of such; see `data.scan_texts`.

    Args:
        found: `data.ScannedTexts`.
    """

    noun, name = NOUN, "text_table"

    def __init__(self, found: ScannedTexts) -> None:
        self.found, self.path = found, pathlib.Path(found.path)
        self._ids: dict[str, list[list[np.ndarray]]] = {}
        self._of_network: tuple[str, ...] = ()

    @classmethod
    def scan(cls, path: PathLike) -> "TextTable | None":
        """The source at `path`, or None if there are no tables of texts."""
        return None if find_text_tables(path) is None else cls(scan_texts(path))

    @property
    def objective(self) -> Objective:
        return OBJECTIVES[self.found.kind]

    def settled(self, settings: S) -> S:
        """`settings` as they are for texts; what is for pictures is refused by name.

        Raises:
            ValueError: If one is given that texts have no use for.
        """
        said: Any = settings
        fields = {field.name: field.default for field in dataclasses.fields(said)}
        for name, other in (
            ("image_size", None),
            ("alpha", None),
            ("augmented_copies", None),
            ("adapt_statistics", False),
        ):
            if name in fields and getattr(said, name) != other:
                raise ValueError(
                    f"`{name}` (--{name.replace('_', '-')}) is for pictures, and {self.path} holds "
                    f"texts. Received: {name}={getattr(said, name)!r}"
                )
        if getattr(said, "augment", "none") not in ("none", fields.get("augment")):
            raise ValueError(
                f"`augment` (--augment) is for pictures, and {self.path} holds texts. "
                f"Received: augment={said.augment!r}"
            )
        if said.backbone == fields["backbone"]:
            raise ValueError(
                "Texts need a network that reads them: --backbone with a preset of KerasHub, such "
                "as bert_tiny_en_uncased, or a folder of one. "
                f"Received: backbone={said.backbone!r}, which sees pictures"
            )
        given: dict[str, Any] = {"augment": "none"}
        if said.learning_rate == fields["learning_rate"]:
            given["learning_rate"] = RATE
        if "export" in fields:
            given["export"] = "none"
        return dataclasses.replace(said, **given)

    def load_backbone(self, settings: Any) -> keras.Model:
        """The network that the settings name, as the mean of what it says of each real token."""
        model = backbones.load(settings.backbone, weights=settings.weights, pooling="avg")
        if not isinstance(shapes_of(model), Mapping):
            raise ValueError(
                f"The backbone must take texts, as the data at {self.path} are. Received: "
                f"{settings.backbone!r}, which takes {model.input_shape}"
            )
        return model

    def prepare_for(self, model: keras.Model, settings: Any) -> PrepareTexts:
        """`PrepareTexts` with the tokenizer of the network, as long as the texts ask for."""
        tokens = _tokens_of(settings.backbone, model)
        self._of_network = backbones.notices(settings.backbone)
        for split, texts in self.found.splits.items():
            self._ids[split] = [
                tokens.ids([text.parts[i] for text in texts]) for i in range(self.found.num_parts)
            ]
        longest = backbones.max_length(model)
        prepare = PrepareTexts(tokens, longest or 10**6, self.found.num_parts)
        first = "all" if "all" in self._ids else "train"
        lengths = prepare.of_ids(self._ids[first]).lengths
        length = settings.max_length or int(np.percentile(lengths, PERCENTILE, method="higher"))
        if longest is not None and length > longest:
            raise ValueError(
                f"`max_length` must be at most {longest}, the positions that {settings.backbone!r} "
                f"has. Received: max_length={length}"
            )
        return dataclasses.replace(prepare, length=length)

    def finer(self, prepare: Any, settings: Any) -> Finer | None:
        """None: texts have no more detail than they have."""
        return None

    def read(
        self,
        prepare: Any,
        settings: Any,
        *,
        seed: int,
        progress: OnProgress | None = None,
    ) -> TaskData:
        """`TaskData` of all texts."""
        found = self.found
        if found.skipped and settings.strict:
            raise ValueError(
                f"{len(found.skipped)} rows of {self.path} cannot be used: "
                f"{checks.listed([f'{place} ({why})' for place, why in found.skipped], 5)}"
            )
        parts = {split: self._examples(split, prepare) for split in found.splits}
        train, val, test, notices = _divided(parts, found, seed, settings.validation)
        return TaskData(
            train,
            val,
            test,
            found.class_names,
            prepare,
            self.objective,
            (
                *self._of_network,
                *_skipped(found),
                *found.notices,
                *notices,
                *_told(prepare, train),
            ),
            found.skipped,
        )

    def _examples(self, split, prepare):
        texts = self.found.splits[split]
        parts = [text.parts for text in texts]
        known = self._ids.get(split)
        rows = prepare.rows(parts) if known is None else prepare.of_ids(known)
        num_classes = len(self.found.class_names) if self.found.kind == "class" else None
        return TextExamples(
            parts, rows, targets_of(self.found, [text.target for text in texts]), num_classes
        )

    def read_held_out(self, prepare: Any, *, progress: OnProgress | None = None) -> HeldOut:
        """`HeldOut`: the texts of the test or validation part if there is one, else all."""
        split = next(n for n in ("test", "val", "all", "train") if n in self.found.splits)
        self._ids.pop(split, None)  # of another network
        skipped = [{"file": place, "reason": why} for place, why in self.found.skipped]
        path = str(self.path) if split == "all" else f"{self.path} ({split})"
        return HeldOut(self._examples(split, prepare), self.found.class_names, path, skipped)

    def rival(self, data: Any, settings: Any) -> Rival | None:
        """What counts words: the cheapest way to learn of texts."""
        return tf_idf(data, seed=settings.seed)


def shapes_of(model: keras.Model) -> Any:
    """The shape of the input of `model`; of several with names, a dict of them.

    `input_shape` alone has lost the names.
    """
    inputs: Any = model.input
    if isinstance(inputs, Mapping):
        return {name: tuple(tensor.shape) for name, tensor in inputs.items()}
    return model.input_shape


def _tokens_of(name, model):
    """The tokenizer of a preset, or that which a run has written down."""
    run = pathlib.Path(name) / FOLDER
    return backbones.load_tokens(run if run.is_dir() else name, backbone=model)


def _divided(parts: dict[str, TextExamples], found, seed, val_share) -> Any:
    """`(train, val, test)` and what to tell of them."""
    if "all" in parts:
        return *_drawn(parts["all"], found, seed, val_share, TEST_SHARE), []
    train = parts["train"]
    if "test" in parts and "val" in parts:
        return train, parts["val"], parts["test"], []
    name = "test" if "test" in parts else "val"
    test = parts[name]
    kept, val, _ = _drawn(train, found, seed, val_share, 0)
    told = f"; {len(val)} of the {len(train)} texts to train on are held back" if len(val) else ""
    return kept, val, test, [f"The {name} part is kept for the final evaluation{told}."]


def _drawn(examples, found, seed, val_share, test_share):
    if found.kind == "class":
        strata, names = examples.targets, found.class_names
        counts = np.bincount(strata, minlength=len(names))
        if (counts < 2).any():
            rare = [name for name, count in zip(names, counts, strict=True) if count < 2]
            raise ValueError(
                f"Each class of {found.path} must have at least two texts to train and to test on. "
                f"Received: one of {checks.listed(rare, 5)}"
            )
    else:
        strata, names = np.zeros(len(examples), np.int64), ("all",)
    drawn = stratified_split(strata, names, seed=seed, val_share=val_share, test_share=test_share)
    return tuple(examples.at(rows) for rows in drawn)


def _skipped(found):
    if not found.skipped:
        return ()
    places = checks.listed([place for place, _ in found.skipped], 3)
    return (f"{len(found.skipped)} rows have no text and were left out: {places}.",)


def _told(prepare, train):
    """Notices of what the network does not see of the texts to train on."""
    rows, notices = train.rows, []
    parts = [part for part in (rows.ids, rows.second) if part is not None]
    unknown = max(prepare.tokens.unknown_share(part) for part in parts)
    if unknown > UNKNOWN:
        notices.append(
            f"The vocabulary lacks {unknown:.1%} of the pieces of the texts: another language, or "
            "signs it never saw? A network that knows them may learn more."
        )
    whole = sum(np.array([len(one) for one in part], np.int64) for part in parts) + rows.around
    if cut := int((whole > prepare.length).sum()):
        notices.append(
            f"{cut} of {len(whole)} texts are longer than {prepare.length} ids and are cut there "
            f"(--max-length); the longest has {whole.max()}."
        )
    return tuple(notices)
