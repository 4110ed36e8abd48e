"""Rows of text under one another."""

from collections.abc import Collection, Iterable, Sequence


def in_columns(rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> str:
    """Rows of equally many strings as lines, each column as wide as its widest cell.

    Args:
        rows: Sequence of sequences of strings; a header is the first of them.
        right: Indices of the columns that are set flush right.

    Example:
        >>> print(in_columns([("layer", "zeros"), ("conv", "12")]))
        layer  zeros
        conv   12
        >>> print(in_columns([("layer", "zeros"), ("conv", "12")], right=[1]))
        layer  zeros
        conv      12
    """
    lines = _padded(rows, right)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the columns after the first are set flush right.

    Args:
        header: Sequence of strings.
        rows: Sequence of as long sequences of strings.

    Example:
        >>> print(markdown(("file", "ms"), [("int8", "0.4"), ("float32", "1.25")]))
        | file    |   ms |
        | ------- | ---: |
        | int8    |  0.4 |
        | float32 | 1.25 |
    """
    top, *lines = _padded([header, *rows], range(1, len(header)), least=3)
    rule = [f"{'-' * (len(cell) - 1)}{':' if i else '-'}" for i, cell in enumerate(top)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (top, rule, *lines))


def _padded(rows, right, least=0):
    """The cells of `rows`, each filled up with blanks to the width of its column."""
    widths = [max(least, *map(len, column)) for column in zip(*rows, strict=True)]
    sides = [str.rjust if i in right else str.ljust for i in range(len(widths))]
    return [
        [side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)]
        for row in rows
    ]
