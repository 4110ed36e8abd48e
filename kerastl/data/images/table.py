"""A table of pictures: which file has which class, labels or number."""

import csv
import math
import unicodedata
from pathlib import Path

from kerastl._base.checks import closest, listed, one_spelling
from kerastl._base.types import PathLike
from kerastl.data.images.scan import SPLIT_FOLDERS, ScannedImages, check_name
from kerastl.data.split import check_tested
from kerastl.data.targets import Kind

NAMES = ("labels.csv", "labels.tsv")  # looked for in a folder
KINDS: dict[str, Kind] = {
    "label": "class",
    "labels": "labels",
    "value": "value",
}  # column -> kind of target
BETWEEN_LABELS = "|"


def find_table(path: PathLike) -> Path | None:
    """The table that `path` is or that lies in the folder `path`, or None."""
    path = Path(path)
    if path.is_dir():
        return next((path / name for name in NAMES if (path / name).is_file()), None)
    return path if path.suffix.lower() in (".csv", ".tsv") else None


def scan_table(path: PathLike, *, least: int = 2) -> ScannedImages:
    """Read a table of pictures, without opening any picture.

    The first line names the columns, in any order: `file`, a path relative to the table; one of
    `label` (a class), `labels` (any number of them, such as `red|round`; none is fine) and `value`
    (a number); and if wanted `split`, which is `train`, `val` or `test`. Values are separated by
    commas in a `.csv` and by tabs in a `.tsv`; UTF-8, with or without a byte order mark.

    Args:
        path: The table, or a folder with a `labels.csv` or `labels.tsv` in it.
        least: Int > 0, classes that must be there: one is enough to measure a model on, and then
            no part need have all of them.

    Returns:
        A `ScannedImages`; its files need not exist, which is found when they are read.

    Raises:
        FileNotFoundError: If there is no table.
        ValueError: If columns are missing, a line cannot be used, of which the message has the
            number, or the part to test on lacks a class of that to train on.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     table = pathlib.Path(root, "labels.csv")
        ...     _ = table.write_text("file,labels\\na.png,red|round\\nb.png,\\nc.png,round\\n")
        ...     found = scan_table(root)
        >>> found.class_names, [labels for _, labels in found.splits["all"]]
        (('red', 'round'), [(0, 1), (), (1,)])
    """
    table = find_table(path)
    if table is None or not table.is_file():
        raise FileNotFoundError(
            f"There is no table {path}. Give a .csv or .tsv file with the columns file and label, "
            "labels or value, or a folder with a labels.csv in it."
        )
    rows, column = _read(table)
    kind: Kind = KINDS[column]
    read = {"class": _class, "labels": _labels, "value": _number}[kind]
    said = [
        (line, row["file"], read(table, line, row[column]), row.get("split")) for line, row in rows
    ]
    _check_once(table, said)
    names, as_target = _targets(table, column, [target for _, _, target, _ in said], least)
    splits = {}
    for line, file, target, split in said:
        name = _split(table, line, split)
        splits.setdefault(name, []).append((_file(table, file), as_target(target)))
    _check_splits(table, splits)
    if kind == "class" and least > 1:
        said = {name: {names[target] for _, target in part} for name, part in splits.items()}
        check_tested(said, {name: f"{table} ({name})" for name in splits}, "picture")
    order = [name for name in ("all", "train", "val", "test") if name in splits]
    return ScannedImages(table, names, {name: tuple(splits[name]) for name in order}, kind=kind)


def _read(table):
    """`(line number, dict)` of each row, and the column that holds the targets."""
    separator = "\t" if table.suffix.lower() == ".tsv" else ","
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator)
            header = [name.strip().lower() for name in next(reader, [])]
            column = _checked_header(table, header)
            rows = [
                (reader.line_num, _row(table, reader.line_num, header, cells))
                for cells in reader
                if any(cell.strip() for cell in cells)
            ]
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} must be UTF-8 text. Received: {error}") from error
    if not rows:
        raise ValueError(f"{table} must name at least one picture. Received: only a header")
    return rows, column


def _checked_header(table, header):
    targets = [name for name in header if name in KINDS]
    if "file" not in header or len(targets) != 1 or len(set(header)) < len(header):
        near = closest(header[0], ["file", *KINDS]) if header else "'file'"
        raise ValueError(
            f"{table} must have a first line with the columns file and one of label, labels and "
            f"value, each once. Received: {listed(header or ['nothing'], 20)}. Closest: {near}."
        )
    return targets[0]


def _row(table, line, header, cells):
    if len(cells) != len(header):
        raise ValueError(
            f"Line {line} of {table} must have {len(header)} values, as its first line does. "
            f"Received: {len(cells)}"
        )
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    if not row["file"]:
        raise ValueError(f"Line {line} of {table} names no file.")
    return row


def _file(table, name):
    """The file called `name`, whose name on disk may be spelt in the other way of Unicode."""
    path = table.parent / name
    if name.isascii() or path.exists():
        return path
    others = (table.parent / unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return next((other for other in others if other.exists()), path)


def _class(table, line, text):
    if not text:
        raise ValueError(f"Line {line} of {table} must have a label. Received: nothing")
    return _name(table, line, text)


def _labels(table, line, text):
    names = (name.strip() for name in text.split(BETWEEN_LABELS))
    return tuple(_name(table, line, name) for name in names if name)


def _name(table, line, text):
    name = one_spelling(text)
    check_name(name, f"Line {line} of {table}")
    return name


def _number(table, line, text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"Line {line} of {table} must have a number as its value. Received: {text!r}"
        )
    return number


def _targets(table, column, targets, least):
    """Names of the outputs, and a function from what a line says to a target."""
    if column == "value":
        return ("value",), float
    many = column == "labels"
    names = tuple(sorted({n for target in targets for n in (target if many else (target,))}))
    if len(names) < (1 if many else least):
        raise ValueError(
            f"{table} must have at least {'one label' if many else 'two classes'}. "
            f"Received: {listed(names or ['none'])}"
        )
    number = {name: i for i, name in enumerate(names)}
    if many:
        return names, lambda target: tuple(sorted({number[name] for name in target}))
    return names, number.__getitem__


def _check_once(table, said):
    seen = {}
    for line, file, _, _ in said:
        if file in seen:
            raise ValueError(
                f"{table} must name each file once. Received: {file!r} on lines {seen[file]} and "
                f"{line}. Several labels of a picture stand on one line: red{BETWEEN_LABELS}round."
            )
        seen[file] = line


def _split(table, line, said):
    if said is None:
        return "all"
    name = next((name for name, known in SPLIT_FOLDERS.items() if said.lower() in known), None)
    if name is None:
        raise ValueError(
            f"Line {line} of {table} must have train, val or test as its split. Received: {said!r}"
        )
    return name


def _check_splits(table, splits):
    if "all" not in splits and ("train" not in splits or len(splits) == 1):
        raise ValueError(
            f"The column split of {table} must have train, and val or test beside it. "
            f"Received: {listed(splits)}"
        )
