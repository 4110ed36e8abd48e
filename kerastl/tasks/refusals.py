"""What texts have no use for, refused by name: settings and networks of pictures, and others."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from kerastl._base.checks import listed
from kerastl.backbones import transfer_size


def refuse_pictures_settings(settings: Any, path: pathlib.Path) -> None:
    """Raise ValueError if a setting, or a network, is given that the texts at `path` cannot use."""
    fields = {field.name: field.default for field in dataclasses.fields(settings)}
    others = ("image_size", None), ("alpha", None), ("augmented_copies", None)
    for name, other in (*others, ("adapt_statistics", False), ("cache_dir", None)):
        if name in fields and getattr(settings, name) != other:
            raise _of_pictures(name, getattr(settings, name), path)
    if getattr(settings, "augment", None) not in (None, "none"):
        raise _of_pictures("augment", settings.augment, path)
    named = getattr(settings, "backbone", None)
    if named is not None and (named == "glyphnet" or transfer_size(named) is not None):
        raise ValueError(
            f"`backbone` (--backbone) must take texts, as the data at {path} are. Received: "
            f"backbone={named!r}, which takes pictures"
        )


def _of_pictures(name, value, path):
    return ValueError(
        f"`{name}` (--{name.replace('_', '-')}) is for pictures, and {path} holds texts. "
        f"Received: {name}={value!r}"
    )


def refuse_others(settings: Any, reasons: Mapping[str, str]) -> None:
    """Raise ValueError if a setting is not its default, for the reason given with its name."""
    fields = {field.name: field.default for field in dataclasses.fields(settings)}
    for name, reason in reasons.items():
        if name in fields and getattr(settings, name) != fields[name]:
            raise ValueError(
                f"`{name}` (--{name.replace('_', '-')}) {reason} "
                f"Received: {name}={getattr(settings, name)!r}"
            )


def refuse_augment(augment: Any) -> None:
    """Raise ValueError if `augment` is not `"none"`: texts are read as they are."""
    if augment != "none":
        raise ValueError(
            f"Texts are not changed at random. Received: augment={augment!r}. Pass 'none'."
        )


def refuse_skipped(found: Any, noun: str) -> None:
    """Raise ValueError if something of what was `found` cannot be used, as `strict` has it.

    Args:
        found: `ScannedTexts` or `ScannedLines`.
        noun: What is left out, in the plural.
    """
    if found.skipped:
        raise ValueError(
            f"{len(found.skipped)} {noun} of {found.path} cannot be used: "
            f"{listed([f'{place} ({why})' for place, why in found.skipped], 5)}"
        )
