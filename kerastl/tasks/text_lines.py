"""`TextLines`: texts to learn to write, as a source of examples."""

import dataclasses
import lzma
import math
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import backbones
from kerastl._base import checks
from kerastl._base.types import OnProgress, PathLike
from kerastl.backbones.packing import with_documents
from kerastl.data.split import TEST_SHARE, stratified_split
from kerastl.data.texts.lines import Document, ScannedLines, find_lines, scan_lines
from kerastl.tasks.next_token import NextToken
from kerastl.tasks.prepare_ids import tokens_of
from kerastl.tasks.prepare_lines import NO_FILES, NOUN, Fitted, PrepareLines, start_of
from kerastl.tasks.protocols import APART, Finer, HeldOut, Objective, Rival, S, TaskData, Unlabelled
from kerastl.tasks.refusals import refuse_others, refuse_pictures_settings, refuse_skipped
from kerastl.tasks.settling import settled_for

LENGTH = 512  # ids of a row of running text at most, where nobody says
PERCENTILE = 99  # of the lengths of exchanges to train on; of longer ones the beginning is cut
MANY = 20  # texts from which on whole ones are held out; of fewer the end of each
VAL_SHARE = 0.1  # of the text, held back to choose between before and after
FULL = 0.75  # share of a row that is filled on average, below which packing pays
LEAST = 2  # rows to test on
UNKNOWN = 0.01
RATE = 2e-4  # of the last layers; those below learn up to five times more slowly
BATCH, EPOCHS = 8, 3
LARGEST = 2**25  # bytes of text to train on that the rival reads at most

_NOT_MERGED = "trains layers that no weights of a preset could do the work of."
_NO_HEAD = (
    "is for a network with a new head. A language model has none: its last layers are trained "
    "already, and it begins as it was loaded."
)
_STRATEGIES = ("partial", "full", "gradual", "lora")
_COMPARED = ",".join(_STRATEGIES[:3])  # where nobody says which


class TextLines:
    """Files of running text, or a `.jsonl` of prompts and responses; see `scan_lines`.

    Args:
        found: `ScannedLines`.
    """

    noun, name = NOUN, "text_lines"
    objective: Objective = NextToken()

    def __init__(self, found: ScannedLines) -> None:
        self.found, self.path = found, pathlib.Path(found.path)
        self._ids: dict[str, np.ndarray] = {}  # of each text that was read
        self._tokens: Any = None
        self._network: Any = None
        self._notices: tuple[str, ...] = ()
        # To train and to test on, once they are read.
        self._texts: tuple[Sequence[Document], Sequence[Document]] = (), ()

    @classmethod
    def scan(cls, path: PathLike, *, least: int = 2) -> "TextLines | None":
        """The source at `path`, or None if there is nothing to learn to write."""
        return None if find_lines(path) is None else cls(scan_lines(path))

    def settled(self, settings: S) -> S:
        """`settings` as they are for language models; what is for others is refused by name.

        Raises:
            ValueError: If one is given that language models have no use for.
        """
        said: Any = settings
        fields = {field.name: field.default for field in dataclasses.fields(said)}
        refuse_pictures_settings(said, self.path)
        refuse_others(said, dict.fromkeys(("start", "dropout", "pooling"), _NO_HEAD))
        refuse_others(said, {"label_smoothing": _NO_CLASS, "unlabelled": _ALL_UNLABELLED})
        if said.backbone is None:
            raise ValueError(
                "To learn to write needs a language model: --backbone with a preset of KerasHub, "
                "such as gpt2_base_en, or a folder of one. "
                f"Received: none, for {self.path}"
            )
        if getattr(said, "export", None) not in (None, "none"):
            raise ValueError(f"{NO_FILES} Received: export={said.export!r} (--export)")
        own = {"batch_size": BATCH, "epochs": EPOCHS, "learning_rate": RATE, "export": "none"}
        settled = settled_for(self.objective, said, augment="none", **own)
        return dataclasses.replace(settled, dropout=0.0, **self._of_strategies(said, fields))

    def _of_strategies(self, said, fields):
        """The strategies that train a network without a new head, and what is held back for one."""
        if "strategies" in fields:
            if said.strategies == fields["strategies"]:
                return {"strategies": _COMPARED}
            names = said.names
        else:
            once = "is for comparing, and a language model is trained once."
            refuse_others(said, {"minutes": once})
            names = [said.strategy]
        for name in names:
            if name not in (*_STRATEGIES, "auto"):
                reason = _NOT_MERGED if name == "adapters" else _NO_HEAD
                raise ValueError(
                    f"The strategy {name!r} {reason} Choose one of "
                    f"{checks.listed(_STRATEGIES)}. Received: strategy={name!r}"
                )
        given: dict[str, Any] = {"strategy": "full"} if names == ["auto"] else {}
        chooses = getattr(said, "keep", "last") == "best"
        if chooses and not said.validation and not {"val", "test"} <= set(self.found.splits):
            given["validation"] = VAL_SHARE
        return given

    def load_backbone(self, settings: Any) -> keras.Model:
        """The language model that the settings name, from ids to logits."""
        network = backbones.load_causal(settings.backbone, weights=settings.weights)
        self._read_as(tokens_of(settings.backbone, network.model))
        asked = settings.packing == "on"
        if asked or (settings.packing == "auto" and self._gapes(network, settings)):
            network = self._packed(network, always=asked)
        self._network = network
        return network.model

    def _packed(self, network, always):
        """`network` that is told of documents; as it is if it cannot be, unless `always`."""
        try:
            return dataclasses.replace(network, model=with_documents(network.model))
        except ValueError as error:
            if always:
                raise
            self._notices = (f"Short texts have rows of their own. {error}",)
            return network

    def _gapes(self, network, settings):
        """Whether rows of one text each would be half empty."""
        lengths = self._lengths(settings)
        longest = self._length(network.model, settings, lengths)
        return np.minimum(lengths, longest).mean() < FULL * longest

    def prepare_for(self, model: keras.Model, settings: Any) -> PrepareLines:
        """`PrepareLines` with the tokenizer of the network, as long as the texts ask for."""
        length = self._length(model, settings, self._lengths(settings))
        return PrepareLines(self._tokens, length, "documents" in model.input)

    def _lengths(self, settings):
        """Positions of each text to train on."""
        train = self._divided(settings.validation, settings.seed)["train"]
        ids = self._ids_of(self._tokens, train)
        around = len(start_of(self._tokens)) + len(self._tokens.end) - 1
        texts = ([ids[text] for text, _ in document.parts] for document in train)
        return np.array([around + sum(map(len, parts)) for parts in texts])

    def _length(self, model, settings, lengths):
        """How many ids a row has at most."""
        longest = backbones.max_length(model)
        asked = settings.max_length
        if asked is not None and longest is not None and asked > longest:
            raise ValueError(
                f"`max_length` (--max-length) must be at most {longest}, the positions that "
                f"{settings.backbone!r} has. Received: max_length={asked}"
            )
        if asked is not None:
            return asked
        most = int(lengths.max())
        if self.found.kind == "response":
            most = int(np.percentile(lengths, PERCENTILE, method="higher"))
        own = self._network.length if self._network is not None else None
        bounds = [longest, *([LENGTH, own] if self.found.kind == "text" else [])]
        return max(2, min([most, *(bound for bound in bounds if bound is not None)]))

    def _read_as(self, tokens):
        """Forget the ids of another network."""
        if not tokens.causal:
            raise ValueError(
                "To learn to write needs a language model. Received: the tokenizer of "
                f"{type(tokens.tokenizer).__name__}, of an encoder"
            )
        if not start_of(tokens):
            raise ValueError(
                "The tokenizer must have an id that begins a text, or ends one. Received: "
                f"{type(tokens.tokenizer).__name__}, which has neither"
            )
        self._tokens, self._ids, self._network = tokens, {}, None

    def _ids_of(self, tokens, documents: Iterable[Document]):
        """Dict from each text of `documents` to its ids; each is read once."""
        if tokens is not self._tokens:
            self._read_as(tokens)
        texts = {text: None for document in documents for text, _ in document.parts}
        new = [text for text in texts if text not in self._ids]
        self._ids |= dict(zip(new, tokens.ids(new), strict=True)) if new else {}
        return self._ids

    def unlabelled(self, model: keras.Model, data: TaskData, settings: Any) -> Unlabelled | None:
        """None: there are no labels to learn of afterwards."""
        return None

    def finer(self, prepare: Any, settings: Any) -> Finer | None:
        """None: texts have no more detail than they have."""
        return None

    def write(self, folder: pathlib.Path) -> None:
        """Write `preset/`, from which the tuned network writes and other programs read it."""
        if self._network is not None:
            backbones.save_preset(self._network.task, folder / "preset")

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
            refuse_skipped(found, "texts")
        divided = self._divided(settings.validation, seed)
        parts, fitted = {}, {}
        for name, documents in divided.items():
            ids = self._ids_of(prepare.tokens, documents)
            pieces, fitted[name] = prepare.pieces(documents, ids)
            parts[name] = prepare.examples(pieces, packs=prepare.packed and name == "train")
        for name in ("train", "test"):
            self._check_part(name, parts[name], prepare)
        self._texts = divided["train"], divided["test"]
        notices = (*self._notices, *self._told(prepare, divided, fitted))
        return TaskData(
            parts["train"],
            parts["val"],
            parts["test"],
            (),
            prepare,
            self.objective,
            notices,
            found.skipped,
        )

    def _check_part(self, name, examples, prepare):
        """Refuse a part without rows, and rows to test on of which no interval could be told."""
        least = LEAST if name == "test" else 1
        if len(examples) < least:
            raise ValueError(
                f"{self.path} must hold more text: at least {least} rows to {name} on, of "
                f"{prepare.length} ids each. Received: {len(examples)}. Give more text, or shorter "
                "rows (--max-length)."
            )

    def read_held_out(self, prepare: Any, *, progress: OnProgress | None = None) -> HeldOut:
        """`HeldOut`: the texts of the test or validation part if there is one, else all."""
        split = next(n for n in ("test", "val", "all", "train") if n in self.found.splits)
        documents = self.found.splits[split]
        pieces, _ = prepare.pieces(documents, self._ids_of(prepare.tokens, documents))
        skipped = [{"file": place, "reason": why} for place, why in self.found.skipped]
        path = str(self.path) if split == "all" else f"{self.path} ({split})"
        return HeldOut(prepare.examples(pieces), (), path, skipped, is_apart=split in APART)

    def _divided(self, validation, seed) -> Mapping[str, Sequence[Document]]:
        """Dict from `"train"`, `"val"` and `"test"` to documents."""
        splits = dict(self.found.splits)
        first = splits.get("all", splits.get("train", ()))
        test = splits.get("test", splits.get("val"))
        if test is None:
            return _split(first, self.found.kind, validation, TEST_SHARE, seed)
        if "test" in splits and "val" in splits:
            return {"train": first, "val": splits["val"], "test": test}
        return {**_split(first, self.found.kind, validation, 0.0, seed), "test": test}

    def _told(self, prepare, divided, fitted: Mapping[str, Fitted]):
        """Notices of what was left out, held out and cut."""
        notices, found = [], self.found
        if found.skipped:
            places = checks.listed([f"{place}, {why}" for place, why in found.skipped], 3)
            notices.append(f"{len(found.skipped)} texts were left out: {places}.")
        if "all" in found.splits and found.kind == "text" and len(found.splits["all"]) < MANY:
            notices.append(f"The last {TEST_SHARE:.0%} of each text are held out.")
        elif "test" not in found.splits and "val" in found.splits:
            notices.append("The val part is kept for the final evaluation.")
        count = sum(map(len, divided.values()))
        cut = sum(one.cut for one in fitted.values())
        dropped = [place for one in fitted.values() for place in one.dropped]
        if cut:
            notices.append(
                f"Cut at the beginning, so that a row has at most {prepare.length} ids "
                f"(--max-length): {cut} of {count} prompts."
            )
        if dropped:
            notices.append(
                f"Dropped, since the response alone has more than {prepare.length} ids "
                f"(--max-length): {len(dropped)} of {count} rows ({checks.listed(dropped, 3)})."
            )
        ids = [self._ids[text] for document in divided["train"] for text, _ in document.parts]
        unknown = prepare.tokens.unknown_share(ids)
        if unknown > UNKNOWN:
            notices.append(
                f"The vocabulary lacks {unknown:.1%} of the pieces of the texts: another language, "
                "or signs it never saw? A network that knows them may learn more."
            )
        return notices

    def rival(self, data: Any, settings: Any) -> Rival | None:
        """What a compressor makes of running text that has read the text to train on."""
        return _compressed(*self._texts, data) if self.found.kind == "text" else None


_ALL_UNLABELLED = "is for an encoder; a language model learns of texts without labels anyway."
_NO_CLASS = "is for classes, and the next token is one of many that may be right."


def _split(documents, kind, val_share, test_share, seed):
    """Documents to train on, to choose by and to test on: the ends of few, or some of many."""
    if kind == "text" and len(documents) < MANY:
        cut = [_cut(document, val_share, test_share) for document in documents]
        return {
            name: [parts[name] for parts in cut if name in parts]
            for name in ("train", "val", "test")
        }
    shares = {"val_share": val_share, "test_share": test_share}
    drawn = stratified_split(np.zeros(len(documents), int), ("all",), seed=seed, **shares)
    return {
        name: [documents[row] for row in rows]
        for name, rows in zip(("train", "val", "test"), drawn, strict=True)
    }


def _cut(document, val_share, test_share):
    """Dict from a purpose to a part of a text: they lie one after the other.

    What is held back is a share of all, as of other sources.
    """
    ((text, _),) = document.parts
    ends = [1 - test_share - val_share, 1 - test_share, 1.0]
    places = [0, *(_line_end(text, round(len(text) * end)) for end in ends)]
    pieces = {
        name: text[begin:end]
        for name, begin, end in zip(("train", "val", "test"), places, places[1:], strict=False)
    }
    is_cut = sum(bool(piece.strip()) for piece in pieces.values()) > 1
    return {
        name: Document(((piece, True),), document.place, not is_cut)
        for name, piece in pieces.items()
        if piece.strip()
    }


def _line_end(text, place):
    """Where the line ends that ends last before `place`, or the word, if that is near."""
    near = max(0, place - len(text) // 50)
    for sign in ("\n", " "):
        found = text.rfind(sign, near, place)
        if found >= 0 and place < len(text):
            return found + (sign == "\n")
    return place


def _compressed(train, test, data):
    """`Rival`: by how many bytes a compressed file grows when the held-out text is added."""
    started = time.perf_counter()
    known, asked = (
        "".join(text for document in part for text, _ in document.parts).encode()
        for part in (train, test)
    )
    known = known[-LARGEST:]
    grown = len(lzma.compress(known + asked, preset=9)) - len(lzma.compress(known, preset=9))
    shares = data.test.targets[:, 1:] / data.test.targets[:, 1].sum()
    nats = 8 * grown * math.log(2) * shares
    return Rival("a compressor, lzma", nats, time.perf_counter() - started, by_row=False)
