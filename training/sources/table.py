"""Tables of labels, and the words in them that mean the same in every source.

Reads CSV files and names; never pixels. What a table does not say stays empty, what it says wrongly is an error.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from models.header import age_in_years
from training.errors import SourceError

Row = Mapping[str, str]

OLDEST = 120
"""Years. NIH's first table says 148 and 414 of some patients: a higher age is an unknown one."""

SEXES = {"F": "F", "FEMALE": "F", "M": "M", "MALE": "M", "O": "O", "OTHER": "O", "U": "", "UNKNOWN": "", "": ""}
# PS3.3 C.8.1.3: LL and RL. Not LLD and RLD: a decubitus film is a frontal one.
LATERAL = frozenset({"L", "LL", "RL", "LAT", "LATERAL", "LEFT LATERAL", "RIGHT LATERAL"})


def rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The lines of a CSV file (also .gz) with a header line; values without blanks around them.

    Raises:
        SourceError: the file is missing, unreadable or empty, or one of `columns` is.
    """
    if found := list(each(path, columns)):
        return found
    raise SourceError(f"{path}: has no rows below its header")


def each(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The same, one after the other, for a table that need not fit into memory; it may be empty.

    Raises:
        SourceError: as `rows`, while it is read.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        # Spreadsheets write a byte order mark, which would be part of the first column's name
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            # spreadsheets of many countries part the columns by semicolons
            lines = csv.reader(file, delimiter=max(",;\t", key=head.count))
            names = [name.strip() for name in next(lines, [])]
            if missing := [name for name in columns if name not in names]:
                raise SourceError(f"{path}: has no column {', '.join(missing)} (has: {', '.join(names)})")
            blank = dict.fromkeys(names, "")
            for line in lines:
                if any(line):
                    yield blank | dict(zip(names, map(str.strip, line), strict=False))
    except FileNotFoundError:
        raise SourceError(f"{path}: is missing; it must have the columns {', '.join(columns)}") from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: cannot be read as CSV in UTF-8: {error}") from None


def one_of(path: Path, lines: Sequence[Row], *names: str) -> str:
    """The first of these columns that the table has.

    Raises:
        SourceError: it has none of them.
    """
    for name in names:
        if name in lines[0]:
            return name
    raise SourceError(f"{path}: has no column {' or '.join(names)} (has: {', '.join(lines[0])})")


def grouped(lines: Iterable[Row], column: str) -> dict[str, list[Row]]:
    """The rows of each value of a column, in the order of their first appearance."""
    found: dict[str, list[Row]] = {}
    for line in lines:
        found.setdefault(line[column], []).append(line)
    return found


def same(lines: Sequence[Row], column: str, *, where: str) -> str:
    """What all rows of one film say in a column; "" when the table has no such column.

    Raises:
        SourceError: they contradict one another.
    """
    values = sorted({line.get(column, "") for line in lines})
    if len(values) > 1:
        raise SourceError(f"{where}: its rows differ in {column}: {', '.join(map(repr, values))}")
    return values[0]


def labels(text: str, *, where: str) -> frozenset[str]:
    """Labels that are joined by "|".

    Raises:
        SourceError: one of them is empty.
    """
    found = [part.strip() for part in text.split("|")]
    if not all(found):
        raise SourceError(f"{where}: the label {text!r} is empty or has an empty part; labels are joined by |")
    return frozenset(found)


def age(text: str, *, where: str) -> float | None:
    """Years, from a number or an age as DICOM writes it ("058Y", "18M"); None when empty or above `OLDEST`.

    Raises:
        SourceError: it is neither.
    """
    if not text:
        return None
    try:
        years = age_in_years(text)
        years = float(text) if years is None else years
    except ValueError:
        raise SourceError(f"{where}: age = {text!r}: not a number of years, nor such as 058Y or 18M") from None
    return years if 0 <= years <= OLDEST else None


def sex(text: str, *, where: str) -> str:
    """F, M, O or "".

    Raises:
        SourceError: another word.
    """
    try:
        return SEXES[text.upper()]
    except KeyError:
        raise SourceError(f"{where}: sex = {text!r}: not one of F, M, O, U or empty") from None


def view(text: str) -> str:
    """PA, AP ("AP Supine" and "AP semi erect" too), LATERAL, or "" for anything else."""
    words = text.upper().split()
    if words and words[0] in ("PA", "AP"):
        return words[0]
    return "LATERAL" if " ".join(words) in LATERAL else ""


def number(text: str, *, where: str) -> float:
    """A coordinate.

    Raises:
        SourceError: it is none.
    """
    try:
        return float(text)
    except ValueError:
        raise SourceError(f"{where}: {text!r} is no number") from None


def all_there(paths: Sequence[Path], *, table: Path) -> None:
    """Every file that a table names is on the disk.

    Raises:
        SourceError: how many are not, and the first of them.
    """
    if missing := [path for path in paths if not path.is_file()]:
        raise SourceError(f"{table}: {len(missing)} of {len(paths)} images are missing, the first is {missing[0]}")
