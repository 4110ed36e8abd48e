"""Texts in tables: which text, or pair of texts, has which class, labels or number.

It is one file of over 400 lines because what is wrong with a table is told where it is read.
"""

import csv
import difflib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from kerastl._base.checks import closest, is_one_line, listed, one_spelling
from kerastl._base.types import PathLike
from kerastl.data.images.scan import EXTENSIONS
from kerastl.data.images.table import BETWEEN_LABELS, KINDS
from kerastl.data.split import check_tested
from kerastl.data.targets import Kind
from kerastl.data.texts.reading import SPLITS, decoded, existing, objects

SEPARATORS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*SEPARATORS, ".jsonl")
TEXTS = ("text",)  # the column of a text
PAIRS = (  # and those of two texts of which something is said
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question", "answer"),
    ("text", "text_pair"),
)
FEW = 0.5  # distinct labels, as a share of rows, of a column that may be labels

_COLUMNS = "text (or text_a and text_b) and one of label, labels and value"


@dataclass(frozen=True)
class Text:
    """One row of a table.

    Attributes:
        parts: The text, or the two texts of a pair.
        target: Index of its class, tuple of the indices of its labels, or a float.
        place: Where it stands, such as `"train.tsv, line 3"`.
    """

    parts: tuple[str, ...]
    target: Any
    place: str


@dataclass(frozen=True)
class ScannedTexts:
    """What `scan_texts` found.

    Attributes:
        path: The file, or the folder of files.
        class_names: Names of the classes, sorted; of the labels; or of the number.
        splits: Dict from `"all"`, or from `"train"` and `"val"` and/or `"test"`, to a tuple of
            `Text`.
        kind: `"class"`, `"labels"` (any number of them a text) or `"value"` (a number).
        skipped: Tuple of `(place, reason)` of rows without a text.
    """

    path: Path
    class_names: tuple[str, ...]
    splits: dict[str, tuple[Text, ...]]
    kind: Kind = "class"
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def num_parts(self) -> int:
        """1 for texts, 2 for pairs of texts."""
        return len(next(iter(self.splits.values()))[0].parts)


def find_text_tables(path: PathLike) -> dict[str, Path] | None:
    """Dict from `"all"`, or from `"train"` and others, to the tables of texts at `path`.

    None if there are none: no table, or one of pictures, which has a column `file`.
    """
    path = Path(path)
    if path.is_dir():
        tables = _tables_of(path)
    else:
        tables = {"all": path} if path.suffix.lower() in ENDINGS else {}
    if not tables or not all(table.is_file() for table in tables.values()):
        return None
    return None if any(map(_is_of_files, tables.values())) else tables


def scan_texts(path: PathLike, *, least: int = 2) -> ScannedTexts:
    """Read a table of texts and what is said of them.

    A `.csv`, `.tsv` or `.jsonl` in UTF-8, with or without a byte order mark; or a folder with such
    a file for each of `train`, `val` (`valid`, `validation`, `dev`) and `test`. Columns, in any
    order: `text`, or two of a pair (`text_a` and `text_b`, say); one of `label` (a class),
    `labels` (any number of them, such as `red|round`) and `value` (a number); and if wanted
    `split`. A table of two columns may do without a first line of names: the column that repeats
    itself is that of the labels. Empty rows are passed over.

    Args:
        path: The file or the folder.
        least: Int > 0, classes that must be there: one is enough to measure a model on, and then
            no part need have all of them.

    Returns:
        `ScannedTexts`.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If columns are missing, a row cannot be used, or a part has classes that the
            part to train on lacks, or the part to test on lacks some that it has; the message says
            where.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     table = pathlib.Path(root, "reviews.tsv")
        ...     rows = ("good\\tI liked it", "bad\\tNo", "good\\tYes", "bad\\tNot at all")
        ...     _ = table.write_text("\\n".join(rows))
        ...     found = scan_texts(table)
        >>> found.class_names, [(text.parts, text.target) for text in found.splits["all"]][:2]
        (('bad', 'good'), [(('I liked it',), 1), (('No',), 0)])
    """
    path = existing(path)
    tables = find_text_tables(path)
    if not tables:
        raise ValueError(
            f"{path} must be a .csv, .tsv or .jsonl file with the columns {_COLUMNS}, or a folder "
            "with such files called train, val and test. Received: something else"
        )
    read = {split: _read(table) for split, table in tables.items()}
    column = _one_column(path, read)
    parts, skipped = {}, []
    for split, table in read.items():
        for row in table.rows:
            name = row.split or split
            if all(part.strip() for part in row.parts):
                parts.setdefault(name, []).append(row)
            else:
                skipped.append((row.place, "no text"))
    _check_parts(path, parts, skipped)
    kind: Kind = KINDS[column]
    targets = _Targets(kind, path, parts, least)
    order = [name for name in ("all", "train", "val", "test") if name in parts]
    splits = {
        name: tuple(Text(row.parts, targets(row), row.place) for row in parts[name])
        for name in order
    }
    if kind == "class" and least > 1:
        said = {
            name: {targets.names[text.target] for text in texts} for name, texts in splits.items()
        }
        files = {name: str(tables.get(name, f"{path} ({name})")) for name in splits}
        check_tested(said, files, "text")
    return ScannedTexts(path, targets.names, splits, kind, tuple(skipped))


def read_texts(path: PathLike, num_parts: int = 1) -> list[tuple[str, ...]]:
    """The texts in a file, whatever else it says of them.

    Args:
        path: A `.txt` with one text a line; or a `.csv`, `.tsv` or `.jsonl` with the column `text`,
            or the two of pairs; or, as to train on, with two columns and no names.
        num_parts: 1 for texts, 2 for pairs.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is none of these, holds no texts, or a text is empty.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     lines = pathlib.Path(root, "lines.txt")
        ...     _ = lines.write_text("I liked it\\n\\nNot at all\\n")
        ...     read_texts(lines)
        [('I liked it',), ('Not at all',)]
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"Texts must lie in a file. Received: the folder {path}; name its files")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if path.suffix.lower() == ".txt" and num_parts == 1:
        read = [(number, (line,)) for number, line in enumerate(decoded(path).split("\n"), 1)]
        read = [(number, parts) for number, parts in read if parts[0].strip()]
    elif path.suffix.lower() in ENDINGS:
        read = _texts_alone(path, num_parts)
    else:
        kinds = ".csv, .tsv or .jsonl" if num_parts > 1 else ".txt, .csv, .tsv or .jsonl"
        raise ValueError(f"Texts must lie in a {kinds} file. Received: {path}")
    if not read:
        raise ValueError(f"{path} must hold at least one text. Received: none")
    for number, parts in read:
        if not all(part.strip() for part in parts):
            raise ValueError(f"Line {number} of {path} must have a text. Received: nothing")
    return [parts for _, parts in read]


def _texts_alone(table, num_parts):
    """`(line number, parts)` of each row of a table, whose other columns are not read."""
    lines = list(_lines(table))
    if not lines:
        return []
    first = lines[0][1]
    header = [str(name).strip().lower() for name in first]
    names = _columns(header)[0]
    label = _label_column(table, lines, header) if names is None and num_parts == 1 else None
    if label is not None:
        return [(n, (cells[1 - label],)) for n, cells in lines]
    if names is None or len(names) != num_parts:
        _refuse_columns_of_texts(table, header, num_parts)
    if isinstance(first, dict):
        rows = [(n, {str(key).lower(): value for key, value in said.items()}) for n, said in lines]
    else:
        _check_widths(table, lines, len(header))
        rows = [(n, dict(zip(header, cells, strict=True))) for n, cells in lines[1:]]
    return [(n, tuple(_text(table, n, row.get(name)) for name in names)) for n, row in rows]


def _refuse_columns_of_texts(table, header, num_parts) -> NoReturn:
    one = num_parts == 1
    wanted = "the column text" if one else "the columns text_a and text_b"
    how = (
        "Without a first line of names a table has two columns, a text and a label that repeats "
        "itself; texts alone go into a .txt, one a line"
        if one
        else "Give them in the first line"
    )
    raise ValueError(
        f"{table} must have {wanted}, for what the model takes. {how}. "
        f"Received: {listed([name[:30] for name in header], 20)}"
    )


def _check_widths(table, lines, width):
    for number, cells in lines:
        if len(cells) != width:
            raise ValueError(
                f"Line {number} of {table} must have {width} values, as its first line does. "
                f"Received: {len(cells)}"
            )


@dataclass
class _Row:
    parts: tuple[str, ...]
    said: Any
    place: str
    split: str | None = None


@dataclass
class _Table:
    """The rows of one file, and the column that holds the targets."""

    path: Path
    column: str
    num_parts: int
    rows: list[_Row] = field(default_factory=list)


def _tables_of(folder):
    """Dict from purpose to the table of that name in `folder`."""
    found = {}
    for split, names in SPLITS.items():
        files = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in ENDINGS]
        matches = [p for p in files if p.stem.lower() in names]
        if len(matches) > 1:
            raise ValueError(
                f"{folder} has {listed(p.name for p in matches)}, which all mean {split!r}. "
                "Keep one."
            )
        if matches:
            found[split] = matches[0]
    if found and ("train" not in found or len(found) == 1):
        raise ValueError(
            f"{folder} must have a file train, and val or test beside it. Received: "
            f"{listed(p.name for p in found.values())}. Of one file alone, give its path."
        )
    return found


def _is_of_files(table):
    """Whether a table is one of pictures: it names files, in its first line or its first row."""
    try:
        first = next(_lines(table), (0, []))[1]
    except ValueError:
        return False  # `scan_texts` tells what is wrong
    if isinstance(first, dict):
        return "file" in first and "text" not in first
    cells = [cell.strip().lower() for cell in first]
    return "file" in cells or any(cell.endswith(EXTENSIONS) for cell in cells)


def _lines(table) -> Iterator[tuple[int, Any]]:
    """`(line number, cells or dict)` of each row of `table` that is not empty."""
    text = decoded(table)
    if table.suffix.lower() == ".jsonl":
        yield from objects(table, text)
    elif table.suffix.lower() == ".tsv" and not _is_quoted(text):
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, line.split("\t")
    else:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=SEPARATORS[table.suffix.lower()]
        )
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells


def _is_quoted(text):
    """Whether a table with tabs has cells in quotes, as spreadsheets write them.

    In many such tables a quotation mark is one, and stands at the beginning of a text by chance.
    """
    cells = [cell for line in text.split("\n") for cell in line.split("\t")]
    opened = [cell for cell in cells if cell.startswith('"')]
    return bool(opened) and all(_is_cell_in_quotes(cell) for cell in opened)


def _is_cell_in_quotes(cell):
    """Whether each quotation mark inside is doubled; one that is not closed goes on in a line."""
    inside = cell[1:-1] if len(cell) > 1 and cell.endswith('"') else cell[1:]
    return '"' not in inside.replace('""', "")


def _read(table):
    lines = list(_lines(table))
    if not lines:
        raise ValueError(f"{table} must hold at least one text. Received: an empty file")
    if table.suffix.lower() == ".jsonl":
        return _of_objects(table, lines)
    header = [name.strip().lower() for name in lines[0][1]]
    names, target = _columns(header)
    if names is None or target is None:
        return _without_header(table, lines, header)
    found = _Table(table, target, len(names))
    _check_widths(table, lines, len(header))
    for number, cells in lines[1:]:
        row = dict(zip(header, cells, strict=True))
        found.rows.append(_row(table, number, names, target, row))
    return found


def _of_objects(table, lines):
    names, target = _columns([str(key).lower() for key in lines[0][1]])
    if names is None or target is None:
        _refuse_columns(table, list(lines[0][1]))
    found = _Table(table, target, len(names))
    for number, said in lines:
        row = {str(key).lower(): value for key, value in said.items()}
        missing = [name for name in (*names, target) if name not in row]
        if missing:
            raise ValueError(
                f"Line {number} of {table} must have {listed([*names, target])}, as its first "
                f"line does. Received: {listed(row or ['nothing'])}"
            )
        found.rows.append(_row(table, number, names, target, row))
    return found


def _columns(header):
    """The columns of the text or the two texts, and that of the target; None for what is not."""
    targets = [name for name in header if name in KINDS]
    pairs = [pair for pair in PAIRS if all(name in header for name in pair)]
    texts = pairs[0] if pairs else TEXTS if TEXTS[0] in header else None
    if len(set(header)) < len(header) or len(targets) != 1:
        return texts, None
    return texts, targets[0]


def _without_header(table, lines, header):
    """The rows of a table of two columns whose first line is none of names."""
    label = _label_column(table, lines, header)
    if label is None:
        _refuse_columns(table, header)
    found = _Table(table, "label", 1)
    for number, cells in lines:
        row = {"text": cells[1 - label], "label": cells[label]}
        found.rows.append(_row(table, number, TEXTS, "label", row))
    return found


def _label_column(table, lines, header):
    """Which of two columns without names is that of the labels: it repeats itself. None if none."""
    names = {"text", *KINDS, *(name for pair in PAIRS for name in pair)}
    if names & set(header) or len(header) != 2 or isinstance(lines[0][1], dict):
        return None
    _check_widths(table, lines, 2)
    columns = [[cells[i].strip() for _, cells in lines] for i in range(2)]
    distinct = [len(set(column)) / len(column) for column in columns]
    label = 0 if distinct[0] < distinct[1] else 1
    return None if distinct[label] > FEW or distinct[0] == distinct[1] else label


def _refuse_columns(table, header) -> NoReturn:
    received = f"Received: {listed([name[:30] for name in header] or ['nothing'], 20)}."
    if len(header) == 1 and table.suffix.lower() in SEPARATORS:
        sign = {",": "commas", "\t": "tabs"}[SEPARATORS[table.suffix.lower()]]
        received += f" Between the values of a {table.suffix} are {sign}."
    raise ValueError(
        f"{table} must have a first line with the columns {_COLUMNS}, each once; or two columns, a "
        f"label that repeats itself and a text. {received}{_near_columns(header)}"
    )


def _near_columns(header):
    """A sentence with what a name may have meant, of the first that is much like one; or none."""
    known = [*dict.fromkeys([*TEXTS, *(name for pair in PAIRS for name in pair), *KINDS])]
    for name in header:
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.7)
        if near and name not in known and near[0] not in header:
            return f" Closest to {name[:30]!r}: {near[0]!r}."
    return ""


def _row(table, number, names, target, row):
    place = f"{table.name}, line {number}"
    parts = tuple(_text(table, number, row[name]) for name in names)
    said = row.get("split")
    return _Row(parts, row[target], place, None if said is None else _split(table, number, said))


def _text(table, number, said):
    if isinstance(said, str):
        return said
    if said is None:
        return ""
    raise ValueError(f"Line {number} of {table} must have a string as its text. Received: {said!r}")


def _split(table, number, said):
    said = str(said).strip().lower()
    name = next((name for name, names in SPLITS.items() if said in names), None)
    if name is None:
        raise ValueError(
            f"Line {number} of {table} must have train, val or test as its split. "
            f"Received: {said!r}"
        )
    return name


def _one_column(path, read: Mapping[str, _Table]):
    """The column of the targets, the same in each table."""
    columns = {table.column: table for table in read.values()}
    widths = {table.num_parts: table for table in read.values()}
    if len(columns) > 1 or len(widths) > 1:
        told = [
            f"{table.path.name}: {table.num_parts} × text, {table.column}"
            for table in read.values()
        ]
        raise ValueError(
            f"The files of {path} must have the same columns. Received: {listed(told, 5)}"
        )
    return next(iter(columns))


def _check_parts(path, parts, skipped):
    left = f" {len(skipped)} rows have no text." if skipped else ""
    if not parts:
        raise ValueError(f"{path} must hold at least one text. Received: none.{left}")
    if "all" not in parts and ("train" not in parts or len(parts) == 1):
        raise ValueError(
            f"{path} must have texts to train on, and others for val or test. "
            f"Received: {listed(parts)}.{left}"
        )


class _Targets:
    """From what a row says to its target."""

    def __init__(self, kind, path, parts: Mapping[str, Sequence[_Row]], least: int) -> None:
        self.kind, self._least = kind, least
        self.names = ("value",) if kind == "value" else self._named(path, parts)
        self._number = {name: i for i, name in enumerate(self.names)}

    def __call__(self, row: _Row) -> Any:
        if self.kind == "value":
            return _number(row)
        if self.kind == "labels":
            return tuple(sorted({self._number[name] for name in _labels(row)}))
        return self._number[_class(row)]

    def _named(self, path, parts):
        read = _labels if self.kind == "labels" else lambda row: (_class(row),)
        said = {
            split: {name for row in rows for name in read(row)} for split, rows in parts.items()
        }
        first = "all" if "all" in said else "train"
        for split, names in said.items():
            if unknown := sorted(names - said[first]):
                raise ValueError(
                    f"The {split} part of {path} has labels that the part to train on lacks: "
                    f"{listed(unknown)}. Labels to train on: {listed(sorted(said[first]))}. "
                    f"Closest to {unknown[0]!r}: {closest(unknown[0], sorted(said[first]), 1)}."
                )
        names = tuple(sorted(said[first]))
        needed = 1 if self.kind == "labels" else self._least
        if len(names) < needed:
            raise ValueError(
                f"{path} must have at least {'one label' if needed == 1 else 'two classes'}. "
                f"Received: {listed(names or ['none'])}"
            )
        return names


def _class(row):
    if isinstance(row.said, (list, dict)):
        raise ValueError(
            f"The row at {row.place} must have one label; several go into a column labels. "
            f"Received: {row.said!r}"
        )
    said = "" if row.said is None else _spelt(row.said)
    if not said:
        raise ValueError(f"The row at {row.place} must have a label. Received: nothing")
    return _checked(row, said)


def _labels(row):
    said = row.said if isinstance(row.said, list) else str(row.said or "").split(BETWEEN_LABELS)
    return tuple(_checked(row, name) for name in map(_spelt, said) if name)


def _spelt(said):
    """A label as text; JSON has numbers and true and false for labels, too."""
    if isinstance(said, bool):
        return str(said).lower()
    return one_spelling(str(said).strip())


def _checked(row, name):
    if not is_one_line(name):
        raise ValueError(
            f"The label at {row.place} must be one line of text, as labels.txt holds one a line. "
            f"Received: {name!r}"
        )
    return name


def _number(row):
    try:
        number = float(row.said)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"The row at {row.place} must have a number as its value. Received: {row.said!r}"
        )
    return number


def repeated(parts: Mapping[str, Sequence[Any]]) -> list[str]:
    """Notices of texts to be measured on that stand word for word among those to train on.

    Args:
        parts: Dict from `"train"`, `"val"` and `"test"` to the texts of `ScannedTexts.splits`.
    """
    notices = []
    known = {_words_of(text): text for text in parts.get("train", ())}
    for name in ("val", "test"):
        again = [text for text in parts.get(name, ()) if _words_of(text) in known]
        if again:
            shown = listed([f"{text.place} ({known[_words_of(text)].place})" for text in again], 3)
            notices.append(
                f"{len(again)} texts of {name} stand word for word in train, so that a score on "
                f"them says less: {shown}."
            )
    return notices


def _words_of(text):
    return tuple(part.strip() for part in text.parts)
