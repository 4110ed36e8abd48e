"""Which readable pictures train, which choose the model and which test it."""

import numpy as np

from kerastl._checks import listed
from kerastl.data.split import TEST_SHARE, VAL_SHARE, stratified_split


def check_counts(folder, labels, kept, items, reasons):
    """Every class needs readable pictures to train on and, unless given, one to test on."""
    split = next(iter(kept))
    needed = 2 if split == "all" else 1
    counts = np.bincount(labels[kept[split]], minlength=len(folder.class_names))
    for label, name in enumerate(folder.class_names):
        if counts[label] >= needed:
            continue
        bad = [
            f"{file.name} ({reason})"
            for (part, file, own), reason in zip(items, reasons, strict=True)
            if part == split and own == label and reason
        ]
        why = f" Skipped: {listed(bad, 5)}." if bad else ""
        raise ValueError(
            f"Class {name!r} of {folder.path} must have at least {needed} readable pictures"
            f"{' to be divided into training and test' if needed > 1 else ' in train/'}. "
            f"Received: {counts[label]}.{why} Add pictures or remove the class."
        )
    for name, rows in kept.items():
        if not len(rows):
            raise ValueError(
                f"{folder.path} has no readable picture in {name}/. Add some or remove the folder."
            )


def divide(kept, labels, class_names, seed, val_share=VAL_SHARE):
    """Dict of row indices for train, val and test, and what to tell the user about them."""
    if "all" in kept:
        shares = (val_share, TEST_SHARE)
        index, notice = _drawn(kept["all"], labels, class_names, seed, shares), []
        if val_share and len(index["val"]) < len(class_names):
            notice = ["Some classes have too few pictures for a place in the validation part."]
        return index, notice
    if len(kept) == 3:
        return dict(kept), []
    index = _drawn(kept["train"], labels, class_names, seed, (val_share, 0))
    held_out = "test" if "test" in kept else "val"
    chosen = f"{len(index['val'])} of the {len(kept['train'])} pictures of train/"
    notice = f"{held_out}/ is kept for the final evaluation" + (
        f"; {chosen} are held back for validation." if val_share else "."
    )
    return index | {"test": kept[held_out]}, [notice]


def _drawn(rows, labels, class_names, seed, shares):
    val_share, test_share = shares
    parts = stratified_split(
        labels[rows], class_names, seed=seed, val_share=val_share, test_share=test_share
    )
    return {name: rows[part] for name, part in zip(("train", "val", "test"), parts, strict=True)}
