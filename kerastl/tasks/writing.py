"""Texts that a language model writes on."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerastl import backbones
from kerastl._base.checks import listed
from kerastl._base.types import PathLike
from kerastl.backbones.causal import PRESET
from kerastl.data.texts.lines import scan_lines
from kerastl.data.texts.reading import decoded, objects
from kerastl.tasks.settings import GenerateSettings

TOGETHER = 8  # prompts that are written on at a time
MORE = 128  # tokens written, where nobody says how many
BETWEEN = "\n\n"  # between an example and what comes after it
_P = 0.9  # of top_p; KerasHub's 0.1 is nearly greedy


class Continuation(NamedTuple):
    """What a model wrote after a prompt.

    Attributes:
        text: String, without the prompt.
        is_whole: Boolean, whether the model ended it, and not the length.
    """

    text: str
    is_whole: bool


def read_prompts(path: PathLike) -> list[str]:
    """The prompts in a file: the lines of a `.txt` that are not empty, or `prompt` of a `.jsonl`.

    Raises:
        ValueError: If there are none, or a line of a `.jsonl` has none.
        FileNotFoundError: If there is no such file.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path} with prompts.")
    text = decoded(path)
    if path.suffix.lower() == ".jsonl":
        prompts = [_prompt(said, f"{path}, line {number}") for number, said in objects(path, text)]
    else:
        prompts = [line for line in text.split("\n") if line.strip()]
    if not prompts:
        what = "nothing but empty lines" if text else "an empty file"
        raise ValueError(f"{path} must hold prompts, one a line. Received: {what}")
    return prompts


def _prompt(said, place):
    prompt = said.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(
            f"{place} must have a prompt, a string. Received: {listed(said) or 'no column'}"
        )
    return prompt


def read_examples(path: PathLike) -> list[list[str]]:
    """Examples to put before each prompt, each as its pieces: what was asked and what answered.

    Args:
        path: A `.jsonl` as language models are trained on: `prompt` with `response` or
            `completion`, or `messages`.

    Raises:
        ValueError: If it holds something else; the message says what.
    """
    found = scan_lines(path)
    if found.kind != "response":
        raise ValueError(
            f"Examples must be a .jsonl with prompt and response (or completion). Received: {path}"
        )
    documents = [document for split in found.splits.values() for document in split]
    return [[text for text, _ in document.parts] for document in documents]


class Writer:
    """A causal language model that writes on what it is given.

    Args:
        model: As in `backbones.load_causal`.
        settings: `GenerateSettings`.

    Raises:
        ValueError: If `model` is no causal language model with a tokenizer, or reaches less far
            than `settings.max_length`.
    """

    def __init__(self, model: PathLike, settings: GenerateSettings) -> None:
        _check_run(model)
        lm = backbones.load_causal(model)
        if lm.task.preprocessor is None:
            raise ValueError(
                "To write needs a model with its tokenizer. Received: "
                f"{os.fspath(model)!r}, a preset without one. Put it beside the model."
            )
        self.settings, self._task, self._longest = settings, lm.task, lm.length
        self._tokens = backbones.Tokens(lm.task.preprocessor.tokenizer)
        reach = backbones.max_length(lm.task.backbone)
        if reach is not None and (settings.max_length or 0) > reach:
            raise ValueError(
                f"`max_length` (--max-length) must be at most {reach}, as far as the positions of "
                f"this model reach. Received: {settings.max_length}"
            )
        self._task.preprocessor = None  # prompts come as ids
        self._task.compile(sampler=_sampler(settings))

    def ids(self, prompts: Sequence[str], examples: Sequence[Sequence[str]] = ()) -> list[Any]:
        """The ids of `prompts` after the `examples`, each text read as in training: by itself.

        Args:
            prompts: Sequence of strings.
            examples: As `read_examples` gives them.

        Returns:
            List of int32 arrays.

        Raises:
            ValueError: If one is empty, or leaves no room to write.
        """
        before = [text for parts in examples for text in (*parts[:-1], parts[-1] + BETWEEN)]
        context = [np.asarray(self._tokens.start, "int32"), *self._tokens.ids(before)]
        found = [np.concatenate([*context, own]) for own in self._tokens.ids(prompts)]
        room = self.settings.max_length or self._longest
        for prompt, ids in zip(prompts, found, strict=True):
            if not prompt.strip():
                raise ValueError(f"A prompt must not be empty. Received: {prompt!r}")
            if room is not None and len(ids) >= room:
                among = ", examples among them," if examples else ""
                fewer = ", or pass fewer examples" if examples else ""
                raise ValueError(
                    f"A prompt must leave room in the {room} tokens that it and what follows may "
                    f"have. Received: {len(ids)} tokens{among} for {prompt[:40]!r}. "
                    f"Shorten it{fewer}."
                )
        return found

    def write(
        self, prompts: Sequence[Any], progress: Callable[[int, int], None] = lambda done, of: None
    ) -> list[Continuation]:
        """What the model writes after each of `prompts`.

        Args:
            prompts: List of arrays, as `ids` gives them.
            progress: Function of how many are done, and of how many.
        """
        length = self._length(prompts)
        size, written = min(TOGETHER, len(prompts)), []
        for begin in range(0, len(prompts), size):
            part = prompts[begin : begin + size]
            written += self._written(part, size, length)
            progress(len(written), len(prompts))
        return written

    def _length(self, prompts):
        if self.settings.max_length is not None:
            return self.settings.max_length
        wanted = max(map(len, prompts)) + MORE
        return wanted if self._longest is None else min(wanted, self._longest)

    def _written(self, prompts, size, length):
        """Continuations of at most `size` prompts; every batch has as many rows: one trace."""
        ids = np.full((size, length), self._tokens.pad, "int32")
        mask = np.zeros((size, length), "bool")
        for row in range(size):
            own = prompts[min(row, len(prompts) - 1)]
            ids[row, : len(own)], mask[row, : len(own)] = own, True
        inputs = {"token_ids": ids, "padding_mask": mask}
        made = self._task.generate(inputs, stop_token_ids=self._stops)["token_ids"]
        return [self._continuation(own, row) for own, row in zip(prompts, made, strict=False)]

    @property
    def _stops(self):
        tokenizer = self._tokens.tokenizer
        more = getattr(tokenizer, "end_token2_id", None)  # of Llama 3, which ends turns by another
        return [*self._tokens.end, *([] if more is None else [int(more)])]

    def _continuation(self, prompt, row):
        rest = row[len(prompt) :]
        ends = np.flatnonzero(np.isin(rest, self._stops))
        rest = rest[: ends[0]] if len(ends) else rest
        before, whole = (self._text(ids) for ids in (prompt, np.concatenate([prompt, rest])))
        # A piece alone would lose the space before it.
        text = whole.removeprefix(before) if whole.startswith(before) else self._text(rest)
        return Continuation(text, bool(len(ends)))

    def _text(self, ids):
        around = {*self._tokens.start, *self._stops}
        return str(self._tokens.tokenizer.detokenize([int(i) for i in ids if i not in around]))


def learnt_otherwise(model: PathLike) -> bool:
    """Whether `model` is a `.keras` file, or the folder of a run that has not learnt to write."""
    folder = pathlib.Path(model)
    is_run = folder.is_dir() and (folder / "model.keras").is_file()
    return folder.suffix == ".keras" or (is_run and not (folder / PRESET).is_dir())


def _check_run(model):
    if learnt_otherwise(model):
        raise ValueError(
            "To write needs a causal language model: a preset, or the run folder of one that was "
            f"tuned, with preset/ in it. Received: {os.fspath(model)!r}, which answers otherwise: "
            "`kerastl predict`."
        )


def _sampler(settings):
    """The sampler of KerasHub that `settings` say."""
    import keras_hub

    given = {name: getattr(settings, name) for name in ("temperature", "k", "p", "alpha")}
    given["num_beams"] = settings.beams
    if settings.sampler == "top_p" and settings.p is None:
        given["p"] = _P
    if settings.sampler in ("top_k", "top_p", "random"):
        given["seed"] = settings.seed
    said = {name: value for name, value in given.items() if value is not None}
    samplers = keras_hub.samplers
    made: Any = {
        "greedy": samplers.GreedySampler,
        "top_k": samplers.TopKSampler,
        "top_p": samplers.TopPSampler,
        "random": samplers.RandomSampler,
        "beam": samplers.BeamSampler,
        "contrastive": samplers.ContrastiveSampler,
    }
    return made[settings.sampler](**said)
