"""A statement as one HTML page: it needs no network and no script, and prints well. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from node.admin.conformance.document import Block, Contents, Document, Section, Table, Tree, numbered_blocks

STYLE = Path(__file__).with_name("page.css")
DEEPEST = 6


def as_html(document: Document) -> str:
    """The whole page. Everything that comes in as text is escaped."""
    title = escape(document.title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><main><h1>{title}</h1>{as_fragment(document)}</main></body></html>\n"
    )


def as_fragment(document: Document) -> str:
    """What follows the title, to be shown within another page. Everything that comes in as text is escaped."""
    cover = "".join(_block(block, "", document) for block in document.cover)
    return cover + "".join(_section(number, section, document) for number, section in document.numbered())


def _section(number: str, section: Section, document: Document) -> str:
    level = min(2 + number.count("."), DEEPEST)
    numbers = iter(n for n, _ in numbered_blocks(number, section))
    blocks = (
        _block(block, f"Table {next(numbers)} " if isinstance(block, Table | Tree) else "", document)
        for block in section.blocks
    )
    heading = f'<h{level} id="s{number}">{number} {escape(section.title)}</h{level}>'
    return heading + "".join(blocks)


def _block(block: Block, number: str, document: Document) -> str:
    if isinstance(block, str):
        return f"<p>{escape(block)}</p>"
    if isinstance(block, Contents):
        return _contents(document)
    caption = f"{number}{escape(block.caption)}"
    if isinstance(block, Table):
        cells = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in block.head)
        head = f"<thead><tr>{cells}</tr></thead>" if any(block.head) else ""
        rows = "".join(f"<tr>{_cells(row)}</tr>" for row in block.rows)
        table = f"<table><caption>{caption}</caption>{head}<tbody>{rows}</tbody></table>"
        return f'<div class="wide" tabindex="0">{table}</div>'
    return f"<figure><figcaption>{caption}</figcaption><pre>{escape(chr(10).join(block.lines))}</pre></figure>"


def _contents(document: Document) -> str:
    lines = "".join(
        f'<li class="level{number.count(".")}"><a href="#s{number}">{number} {escape(section.title)}</a></li>'
        for number, section in document.numbered()
    )
    return f'<nav aria-label="Contents"><ol>{lines}</ol></nav>'


def _cells(cells: Iterable[str]) -> str:
    return "".join(f"<td>{'<br>'.join(map(escape, cell.splitlines()))}</td>" for cell in cells)
