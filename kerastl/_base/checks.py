"""Argument checks and their wording: what is needed, what came, what to do next."""

import difflib
import pathlib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any


def closest(name: str, options: Iterable[Any], n: int = 3) -> str:
    """The `n` names of `options` nearest to `name`, quoted, for an error message.

    Example:
        >>> closest("conv5_blok3_out", ["conv5_block3_out", "stem"])
        "'conv5_block3_out'"
    """
    options = [str(option) for option in options]
    near = difflib.get_close_matches(str(name), options, n=n, cutoff=0.4)
    return ", ".join(repr(option) for option in near or options[:n])


def near_path(path: pathlib.Path, *, folders: bool = False) -> str:
    """A sentence with the names beside `path` that are much like it, empty if there are none.

    Args:
        path: Path that does not exist.
        folders: Bool, whether a folder is wanted.
    """
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    names = [p.name for p in beside if p.is_dir() or not folders]
    near = difflib.get_close_matches(path.name, names, n=2, cutoff=0.6)
    return f" Closest: {', '.join(map(repr, near))}." if near else ""


def listed(names: Iterable[Any], limit: int = 10) -> str:
    """`names` on one line, cut after `limit` with a count of what is left.

    Example:
        >>> listed(["a", "b", "c"], limit=2)
        'a, b and 1 more'
    """
    names = [str(name) for name in names]
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def one_of(value: Any, options: Sequence[Any], name: str) -> Any:
    """Return `value` if it is one of `options`, else raise with the nearest of them.

    Example:
        >>> one_of("gradul", ["head", "gradual"], "strategy")
        Traceback (most recent call last):
        ValueError: `strategy` must be one of head, gradual. Received: strategy='gradul'. \
Closest: 'gradual'.
    """
    if value not in options:
        raise ValueError(
            f"`{name}` must be one of {listed(options, 40)}. Received: {name}={value!r}. "
            f"Closest: {closest(value, options, 1)}."
        )
    return value


def in_range(value: Any, low: float, high: float, name: str, what: str = "a number") -> Any:
    """Return `value` if `low <= value <= high`, else raise ValueError (TypeError for no number)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"`{name}` must be {what} in [{low}, {high}]. "
            f"Received: {name}={value!r} (of type {type(value).__module__}."
            f"{type(value).__qualname__})"
        )
    if not low <= value <= high:
        raise ValueError(f"`{name}` must be {what} in [{low}, {high}]. Received: {name}={value!r}")
    return value


def whole(value: Any, low: int, high: int, name: str) -> int:
    """Return `value` if it is an int in [low, high], else raise.

    Example:
        >>> whole(0, 1, 10, "epochs")
        Traceback (most recent call last):
        ValueError: `epochs` must be an int in [1, 10]. Received: epochs=0
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"`{name}` must be an int in [{low}, {high}]. Received: {name}={value!r}")
    return value


def one_spelling(name: str) -> str:
    """`name` as Unicode composes it: one name may be spelt in two ways, and macOS uses the other.

    Example:
        >>> one_spelling("cafe\\u0301") == "caf\\u00e9"
        True
    """
    return unicodedata.normalize("NFC", name)


# Control characters, line and paragraph separators, and bytes of a file name that are no UTF-8.
_NO_TEXT = ("Cc", "Zl", "Zp", "Cs")


def is_one_line(name: Any) -> bool:
    """Whether `name` can stand on a line of its own in a text file, and be read back.

    Example:
        >>> is_one_line("red wine"), is_one_line("red\\nwine"), is_one_line(" ")
        (True, False, False)
    """
    if not isinstance(name, str) or not name.strip():
        return False
    return not any(unicodedata.category(character) in _NO_TEXT for character in name)
