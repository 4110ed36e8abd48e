"""Real sentences as the target of a transfer: who wrote it, Brontë or Darwin?"""

import functools
from pathlib import Path

import numpy as np

from kerastl._base.checks import in_range

TABLE = Path(__file__).with_name("sentences.tsv")


@functools.cache
def _all():
    """The sentences, and an int array of who wrote each."""
    _, *lines = TABLE.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    names = authors()
    return [text for _, text in rows], np.array([names.index(name) for name, _ in rows], np.int64)


def authors() -> tuple[str, ...]:
    """Names of the classes: Charlotte Brontë of novels, Charles Darwin of books on nature."""
    return ("bronte", "darwin")


def sentences(
    seed: int = 0, *, labels_per_author: int = 20
) -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    """Sentences of two authors, split into a small labelled set and a large held-out one.

    They stand in stretches of four books that the pretraining of `prosenet` left out.

    Args:
        seed: Int, which are labelled.
        labels_per_author: Int > 0, how many of each author are.

    Returns:
        Tuple `(train_texts, train_labels, test_texts, test_labels)`: lists of strings, and int64
        arrays of places in `authors()`.

    Example:
        >>> train, train_labels, test, _ = sentences(seed=0, labels_per_author=20)
        >>> len(train), train_labels.sum().item(), len(test) > 1000
        (40, 20, True)
    """
    texts, labels = _all()
    held_out = held_out_sentences(seed, labels_per_author=labels_per_author)
    known, others = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    known_texts, other_texts = ([texts[row] for row in rows] for rows in (known, others))
    return known_texts, labels[known], other_texts, labels[others]


def held_out_sentences(seed: int = 0, *, labels_per_author: int = 20) -> np.ndarray:
    """Which of all sentences `sentences` holds out: booleans, in the order of the table."""
    _, labels = _all()
    fewest = int(np.bincount(labels).min())
    in_range(labels_per_author, 1, fewest - 1, "labels_per_author", "an int")
    held_out, rng = np.ones(len(labels), bool), np.random.default_rng(seed)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held_out[rng.choice(members, labels_per_author, replace=False)] = False
    return held_out
