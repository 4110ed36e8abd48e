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
