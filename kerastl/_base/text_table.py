"""Rows of text under one another."""


def in_columns(rows):
    """Rows of equally many strings as lines, each column as wide as its widest cell.

    Example:
        >>> print(in_columns([("layer", "zeros"), ("conv", "12")]))
        layer  zeros
        conv   12
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def markdown(header, rows):
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
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(cells, widths) for cells in (header, rule, *rows))


def _line(cells, widths):
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "| " + " | ".join((first, *rest)) + " |"
