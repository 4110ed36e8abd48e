"""Which texts of a table are for what, and what is told of that."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerastl._base.checks import listed
from kerastl.data.split import TEST_SHARE, stratified_split
from kerastl.data.targets import targets_of
from kerastl.data.texts.table import ScannedTexts, repeated

PURPOSES = ("train", "val", "test")


def divided(
    found: ScannedTexts, *, seed: int, val_share: float
) -> dict[str, tuple[str, np.ndarray]]:
    """From each of `PURPOSES` to the part of a table and the rows of it that serve it.

    Args:
        found: `data.ScannedTexts`.
        seed: Int that draws what is held back.
        val_share: Float in [0, 0.5], share of the texts, those of a test part apart, to choose by.
    """
    splits = found.splits
    if "all" in splits:
        drawn = _drawn(found, "all", seed, val_share, TEST_SHARE)
        return {purpose: ("all", rows) for purpose, rows in zip(PURPOSES, drawn, strict=True)}
    given = {name: (name, np.arange(len(texts))) for name, texts in splits.items()}
    if "test" in given and "val" in given:
        return given
    train, val, _ = _drawn(found, "train", seed, val_share, 0)
    held_out = given["test" if "test" in given else "val"]
    return {"train": ("train", train), "val": ("train", val), "test": held_out}


def told_of(found: ScannedTexts, division: Mapping[str, tuple[str, np.ndarray]]) -> list[str]:
    """Notices of a `divided` table: what is held back, what stands twice, what is not measured."""
    texts = {
        purpose: [found.splits[part][row] for row in rows]
        for purpose, (part, rows) in division.items()
    }
    notices = []
    if "all" not in found.splits and len(found.splits) == 2:
        part, count = division["test"][0], len(texts["val"])
        whole = count + len(texts["train"])
        told = f"; {count} of the {whole} texts to train on are held back" if count else ""
        notices.append(f"The {part} part is kept for the final evaluation{told}.")
    if found.kind == "labels" and (missing := _lacking(found, texts["test"])):
        notices.append(
            f"Nothing is measured of {listed(missing, 5)}: no text to test on has the label."
        )
    given = found.splits.get("val", ()) if "test" in found.splits else ()
    if found.kind == "class" and given and (missing := _lacking(found, given)):
        notices.append(f"The val part has no text of {listed(missing, 5)}.")
    return notices + repeated(texts)


def _lacking(found, texts):
    """Names of the classes or labels that none of `texts` has."""
    said = [text.target for text in texts]
    known = set(said) if found.kind == "class" else {one for several in said for one in several}
    return [name for number, name in enumerate(found.class_names) if number not in known]


def _drawn(found, part, seed, val_share, test_share) -> Any:
    texts = found.splits[part]
    strata, names = np.zeros(len(texts), np.int64), ("all",)
    if found.kind == "class":
        strata, names = targets_of(found, [text.target for text in texts]), found.class_names
        counts = np.bincount(strata, minlength=len(names))
        if (counts < 2).any():
            rare = [name for name, count in zip(names, counts, strict=True) if count < 2]
            raise ValueError(
                f"Each class of {found.path} must have at least two texts to train and to test on. "
                f"Received: one of {listed(rare, 5)}"
            )
    return stratified_split(strata, names, seed=seed, val_share=val_share, test_share=test_share)
