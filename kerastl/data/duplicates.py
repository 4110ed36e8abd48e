"""Pictures that are there twice: across the splits they flatter the result."""

from collections import defaultdict


def duplicate_notices(index, labels, records, files):
    """Lines about files of equal content in two splits or under two classes.

    Args:
        index: Dict from split name to row numbers.
        labels: Class index of every row.
        records: List with every row's `digest`.
        files: Path of every row.

    Returns:
        List of lines, empty when nothing is there twice.

    Example:
        >>> records = [{"digest": "x"}, {"digest": "x"}, {"digest": "y"}]
        >>> index = {"train": [0], "val": [2], "test": [1]}
        >>> print(duplicate_notices(index, [0, 0, 0], records, ["a.png", "b.png", "c.png"])[0])
        1 of the 1 test pictures is also in the training or validation part (b.png, same content \
as a.png), so the test result may be too good.
    """
    splits, classes = defaultdict(dict), defaultdict(dict)
    for split, rows in index.items():
        for row in rows:
            splits[records[row]["digest"]].setdefault(split, row)
            classes[records[row]["digest"]].setdefault(int(labels[row]), row)
    return _leaks(index, records, files, splits) + _conflicts(files, classes)


def _leaks(index, records, files, splits):
    seen = [row for row in index["test"] if set(splits[records[row]["digest"]]) != {"test"}]
    if not seen:
        return []
    others = splits[records[seen[0]]["digest"]]
    other = others.get("train", others.get("val"))
    is_are = "is" if len(seen) == 1 else "are"
    return [
        f"{len(seen)} of the {len(index['test'])} test pictures {is_are} also in the training or "
        f"validation part ({files[seen[0]]}, same content as {files[other]}), so the test result "
        "may be too good."
    ]


def _conflicts(files, classes):
    rows = [tuple(by_class.values()) for by_class in classes.values() if len(by_class) > 1]
    if not rows:
        return []
    return [
        f"{len(rows)} pictures are in two classes at once, such as {files[rows[0][0]]} and "
        f"{files[rows[0][1]]}."
    ]
