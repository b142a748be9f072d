"""What a statement is made of: numbered sections with sentences, tables and trees. Knows no DICOM and no markup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> list[str]:
        """The cells below one heading."""
        return [row[self.head.index(name)] for row in self.rows]


@dataclass(frozen=True)
class Tree:
    """Lines as they stand, indented."""

    caption: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """The table of contents of the whole document."""


Block = str | Table | Tree | Contents


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...] = ()
    parts: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Document:
    title: str
    cover: tuple[Block, ...]
    sections: tuple[Section, ...]

    def numbered(self) -> Iterator[tuple[str, Section]]:
        """Every section with its number, such as "4.2.1", in the order of the page."""
        yield from _numbered(self.sections, "")

    def tables(self) -> Iterator[tuple[str, Table | Tree]]:
        """Every table and tree with its number, such as "4.2.1-1"."""
        for number, section in self.numbered():
            yield from numbered_blocks(number, section)

    def table(self, caption: str) -> Table:
        """The table of that caption; there is one."""
        (found,) = (one for _, one in self.tables() if isinstance(one, Table) and one.caption == caption)
        return found


def numbered_blocks(number: str, section: Section) -> list[tuple[str, Table | Tree]]:
    """The tables and trees of one section, numbered within it."""
    counted = [block for block in section.blocks if isinstance(block, Table | Tree)]
    return [(f"{number}-{n}", block) for n, block in enumerate(counted, start=1)]


def _numbered(sections: tuple[Section, ...], prefix: str) -> Iterator[tuple[str, Section]]:
    for n, section in enumerate(sections, start=1):
        yield f"{prefix}{n}", section
        yield from _numbered(section.parts, f"{prefix}{n}.")
