"""`TextTable`: a table of texts as a source of examples."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerastl import backbones
from kerastl._base import checks
from kerastl._base.types import OnProgress, PathLike
from kerastl.data.targets import Kind, targets_of
from kerastl.data.texts.table import (
    ScannedTexts,
    find_text_tables,
    scan_texts,
)
from kerastl.tasks.classification import Classification
from kerastl.tasks.device_texts import QUANTIZED
from kerastl.tasks.multi_label import MultiLabel
from kerastl.tasks.prepare_ids import shapes_of, tokens_of
from kerastl.tasks.prepare_texts import NOUN, PrepareTexts, around_of
from kerastl.tasks.protocols import APART, Finer, HeldOut, Objective, Rival, S, TaskData, Unlabelled
from kerastl.tasks.refusals import refuse_others, refuse_pictures_settings, refuse_skipped
from kerastl.tasks.regression import Regression
from kerastl.tasks.settling import settled_for
from kerastl.tasks.text_division import PURPOSES, divided, told_of
from kerastl.tasks.text_examples import TextExamples
from kerastl.tasks.tf_idf import tf_idf
from kerastl.tasks.unlabelled_texts import ids_to_learn, read_unlabelled, unlabelled_texts

PERCENTILE = 99  # of the lengths of texts to train on; longer ones are cut
UNKNOWN = 0.01  # share of ids that the vocabulary lacks, from which on a notice says so
PROSENET = "prosenet"  # the embedded default
RATE = 1e-3  # of a head that starts at zero; encoders take a tenth of what other networks take
POOLED: dict[str, Any] = {"mean": "avg", "pooled": "own", "first": "token"}  # of `backbones.load`
OBJECTIVES: dict[Kind, Objective] = {
    "class": Classification(),
    "labels": MultiLabel(),
    "value": Regression(),
}


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
        self._unlabelled: list[str] = []
        self._ids_to_learn: list[np.ndarray] = []  # of these

    @classmethod
    def scan(cls, path: PathLike, *, least: int = 2) -> "TextTable | None":
        """The source at `path`, or None if there are no tables of texts."""
        return None if find_text_tables(path) is None else cls(scan_texts(path, least=least))

    @property
    def objective(self) -> Objective:
        return OBJECTIVES[self.found.kind]

    def settled(self, settings: S) -> S:
        """`settings` as they are for texts; what is for pictures is refused by name.

        Raises:
            ValueError: If one is given that texts have no use for.
        """
        said: Any = settings
        refuse_pictures_settings(said, self.path)
        refuse_others(said, {"packing": "is for language models, which learn to write."})
        usual = {"learning_rate": RATE, "export": QUANTIZED, "backbone": PROSENET}
        settled = settled_for(self.objective, said, augment="none", **usual)
        if getattr(said, "unlabelled", None) is not None:
            self._unlabelled = read_unlabelled(said.unlabelled)
        return settled

    def load_backbone(self, settings: Any) -> keras.Model:
        """The network that the settings name, with one vector a text, by their `pooling`."""
        pooled = POOLED[settings.pooling or "mean"]
        if settings.pooling is not None:
            _refuse_pooled(settings)
        model = backbones.load(settings.backbone, weights=settings.weights, pooling=pooled)
        if not isinstance(shapes_of(model), Mapping):
            raise ValueError(
                f"The backbone must take texts, as the data at {self.path} are. Received: "
                f"{settings.backbone!r}, which takes {model.input_shape}"
            )
        return model

    def prepare_for(self, model: keras.Model, settings: Any) -> PrepareTexts:
        """`PrepareTexts` with the tokenizer of the network, as long as the texts ask for."""
        tokens = tokens_of(settings.backbone, model)
        if self._unlabelled:
            self._ids_to_learn = ids_to_learn(self._unlabelled, tokens)
        self._of_network = (*backbones.notices(settings.backbone), *_small(settings))
        for split, texts in self.found.splits.items():
            self._ids[split] = [
                tokens.ids([text.parts[i] for text in texts]) for i in range(self.found.num_parts)
            ]
            _refuse_nothing(texts, self._ids[split])
        longest = backbones.max_length(model)
        prepare = PrepareTexts(tokens, longest or 10**6, self.found.num_parts)
        division = divided(self.found, seed=settings.seed, val_share=settings.validation)
        part, rows = division["train"]
        lengths = prepare.of_ids(self._ids[part]).lengths[rows]
        least = around_of(tokens, self.found.num_parts) + self.found.num_parts
        if settings.max_length is not None and settings.max_length < least:
            raise ValueError(
                f"`max_length` (--max-length) must be at least {least}: what is around a text, and "
                f"something of it. Received: max_length={settings.max_length}"
            )
        length = settings.max_length or int(np.percentile(lengths, PERCENTILE, method="higher"))
        if longest is not None and length > longest:
            raise ValueError(
                f"`max_length` must be at most {longest}, the positions that {settings.backbone!r} "
                f"has. Received: max_length={length}"
            )
        return dataclasses.replace(prepare, length=length)

    def write(self, folder: pathlib.Path) -> None:
        """Nothing: all of the network is in `model.keras`."""

    def unlabelled(self, model: keras.Model, data: TaskData, settings: Any) -> Unlabelled | None:
        """The texts of `--unlabelled`, of which the network learns before it learns of labels."""
        if settings.unlabelled is None:
            return None
        return unlabelled_texts(
            self._unlabelled, settings, ids=self._ids_to_learn, model=model, data=data
        )

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
        if settings.strict:
            refuse_skipped(found, "rows")
        parts = {split: self._examples(split, prepare) for split in found.splits}
        division = divided(found, seed=seed, val_share=settings.validation)
        drawn = (division[purpose] for purpose in PURPOSES)
        train, val, test = (parts[part].at(rows) for part, rows in drawn)
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
                *told_of(found, division),
                *_told(prepare, train),
            ),
            found.skipped,
        )

    def _examples(self, split, prepare):
        if prepare.num_parts != self.found.num_parts:
            has = ("one text", "two texts")
            raise ValueError(
                f"The model takes {has[prepare.num_parts - 1]} an example. Received: {self.path}, "
                f"which has {has[self.found.num_parts - 1]}"
            )
        texts = self.found.splits[split]
        parts = [text.parts for text in texts]
        known = self._ids.get(split)
        rows = prepare.rows(parts) if known is None else prepare.of_ids(known)
        _refuse_nothing(texts, [part for part in (rows.ids, rows.second) if part is not None])
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
        examples, names = self._examples(split, prepare), self.found.class_names
        return HeldOut(examples, names, path, skipped, is_apart=split in APART)

    def rival(self, data: Any, settings: Any) -> Rival | None:
        """What counts words: the cheapest way to learn of texts."""
        return tf_idf(data, seed=settings.seed)


def _refuse_nothing(texts, ids):
    """Refuse a text of which the vocabulary knows nothing; `ids` has a list for each part."""
    for text, *parts in zip(texts, *ids, strict=True):
        if not any(map(len, parts)):
            raise ValueError(
                f"The text at {text.place} must have something that the vocabulary knows. "
                f"Received: {' | '.join(text.parts)!r}"
            )


def _refuse_pooled(settings):
    """Refuse to pool what a run, or a `.keras` file, gives as one vector a text already."""
    path = pathlib.Path(settings.backbone)
    if path.suffix != ".keras" and not (path / "model.keras").is_file():
        return
    gives: Any = backbones.load(path, weights=settings.weights, pooling=None).output
    if not isinstance(gives, Mapping) and len(gives.shape) == 2:
        raise ValueError(
            "`pooling` (--pooling) is for a network that gives a vector for each token. Received: "
            f"pooling={settings.pooling!r} for {path}, which gives one for each text"
        )


def _small(settings):
    """A notice of what the embedded default knows, where no other network was named."""
    if settings.backbone != PROSENET or settings.weights is None:
        return ()
    return (
        "prosenet is a small network that knows two books' worth of old English prose: one that is "
        "pretrained on more learns more, such as --backbone bert_tiny_en_uncased.",
    )


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
