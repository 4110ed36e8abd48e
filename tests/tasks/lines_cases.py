"""Tiny language models in folders, and texts for them to learn."""

import json

import numpy as np

from tests.backbones.causal_cases import folder
from tests.backbones.text_cases import tokenizers

WORDS = ("the", "quick", "brown", "fox", "cat", "sat", "on", "a", "log", "old", "wall", "dog")


def network(path, family, **config):
    """The folder of a tiny model of `family`, with a tokenizer of as many tokens."""
    tokenizer = tokenizers()[family.lower()]()
    size = tokenizer.vocabulary_size()
    return folder(path, family, tokenizer=tokenizer, vocabulary_size=size, **config)


def prose(count, seed=0):
    """Running text of `count` words in lines, of which each but a few follows from the last."""
    rng = np.random.default_rng(seed)
    at, lines = 0, []
    for _ in range(count // 6 + 1):
        line = []
        for _ in range(6):
            at = int(rng.integers(len(WORDS))) if rng.random() < 0.1 else (at + 5) % len(WORDS)
            line.append(WORDS[at])
        lines.append(" ".join(line))
    return "\n".join(lines) + "\n"


def exchanges(path, count, seed=0):
    """A `.jsonl` of prompts of several lengths, each answered by the word after its last."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        words = [WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(1, 9))]
        answer = WORDS[(WORDS.index(words[-1]) + 5) % len(WORDS)]
        rows.append({"prompt": " ".join(words), "response": f" {answer}"})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path
