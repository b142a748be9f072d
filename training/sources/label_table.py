"""Images with a labels.csv beside them: the layout that this project publishes in, and that anyone can write.

Reads the table and looks whether the files are there; never reads pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.manifest import Item
from training.sources import table
from training.sources.table import Row

NAME = "labels.csv"


def labels_csv(folder: Path, *, source: str = "") -> list[Item]:
    """`labels.csv` with the columns filename (below `folder`) and label or labels.

    Several labels are joined by "|", or stand in several rows of one file. Columns patient_id, view, age (years, or
    058Y) and sex (F, M, O) are read where they are.

    Raises:
        SourceError: a column, label or file is missing, or rows of one file contradict one another.
    """
    path = folder / NAME
    lines = table.rows(path, ["filename"])
    column = table.one_of(path, lines, "label", "labels")
    name = source or folder.resolve().name
    films = table.grouped(lines, "filename")
    items = [_item(folder / film, name, some, column) for film, some in films.items()]
    table.all_there([item.path for item in items], table=path)
    return items


def _item(path: Path, source: str, lines: Sequence[Row], column: str) -> Item:
    where = f"{NAME}, {path.name}"
    said = {name: table.same(lines, name, where=where) for name in ("patient_id", "view", "age", "sex")}
    return Item(
        path,
        source,
        labels=frozenset().union(*(table.labels(line[column], where=where) for line in lines)),
        patient=said["patient_id"],
        view=table.view(said["view"]),
        age=table.age(said["age"], where=where),
        sex=table.sex(said["sex"], where=where),
    )


def hello_world(folder: Path) -> list[Item]:
    """`hello_world`: 65 chest and abdomen films of openI and of article figures (Lakhani et al., J Digit Imaging 2018).

    Labels are chest and abdomen. No patients are known; some abdomen films are panels of one figure.
    """
    return labels_csv(folder, source="hello_world")
