"""The field's table: what each strategy costs and what it gives."""

HEADER = ("strategy", "frozen layers", "trainable weights", "seconds", "accuracy", "memory")


def cells(row):
    """The cells of a row of `compare` as text.

    Example:
        >>> cells({"strategy": "head", "frozen_layers": 3, "layers": 4, "trainable_weights": 1290,
        ...        "seconds": 2.34, "accuracy": {"mean": 0.8, "std": 0.01, "each": [0.79, 0.81]},
        ...        "peak_memory": 1_200_000_000})
        ('head', '3 of 4', '1,290', '2.3', '80.0 ± 1.0 %', '1,200 MB')
    """
    accuracy = row["accuracy"]
    spread = f" ± {100 * accuracy['std']:.1f}" if len(accuracy["each"]) > 1 else ""
    return (
        row["strategy"],
        f"{row['frozen_layers']} of {row['layers']}",
        f"{row['trainable_weights']:,}",
        f"{row['seconds']:.1f}",
        f"{100 * accuracy['mean']:.1f}{spread} %",
        f"{row['peak_memory'] / 1e6:,.0f} MB",
    )


def as_markdown(rows):
    """The rows of `compare` as a Markdown table."""
    lines = [HEADER, ("---",) * len(HEADER), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
