"""A statement as Markdown: for a repository, a ticket, a terminal. Decides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from node.admin.conformance.document import Block, Contents, Document, Section, Table, Tree, numbered_blocks

DEEPEST = 6
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def as_markdown(document: Document) -> str:
    """The whole document; ends with a newline."""
    return "\n\n".join(_parts(document)) + "\n"


def _parts(document: Document) -> Iterator[str]:
    yield f"# {_text(document.title)}"
    yield from (part for block in document.cover for part in _block(block, "", document))
    for number, section in document.numbered():
        yield from _section(number, section, document)


def _section(number: str, section: Section, document: Document) -> Iterator[str]:
    level = min(2 + number.count("."), DEEPEST)
    yield f"{'#' * level} {number} {_text(section.title)}"
    numbers = iter(n for n, _ in numbered_blocks(number, section))
    for block in section.blocks:
        yield from _block(block, f"Table {next(numbers)} " if isinstance(block, Table | Tree) else "", document)


def _block(block: Block, number: str, document: Document) -> Iterator[str]:
    if isinstance(block, str):
        yield _text(block)
        return
    if isinstance(block, Contents):
        yield "\n".join(f"{'  ' * n.count('.')}- {n} {_text(section.title)}" for n, section in document.numbered())
        return
    yield f"**{number}{_text(block.caption)}**"
    if isinstance(block, Table):
        yield "\n".join([_row(block.head), _row("---" for _ in block.head), *(_row(map(_cell, r)) for r in block.rows)])
    else:
        yield "\n".join(["```text", *block.lines, "```"])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return "<br>".join(map(_text, text.splitlines())) or " "


def _text(text: str) -> str:
    """Words that stay words: names of attributes, titles and settings may hold any sign."""
    return SPECIAL.sub(r"\\\1", text)
