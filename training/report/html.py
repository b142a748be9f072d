"""The few pieces of HTML that the report is made of. Everything that comes in as text is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("report.css")


def document(title: str, under: str, *content: str) -> str:
    """A whole page: one file, no network, no script."""
    named = escape(title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{named}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><header><h1>{named}</h1><p>{escape(under)}</p>"
        "<p class=small><strong>Research use only.</strong> Not a medical device. Not for decisions on a patient.</p>"
        f"</header>{''.join(content)}</body></html>\n"
    )


def write(page: str, path: Path) -> None:
    """Write a page, in whole or not at all."""
    building = path.with_name(path.name + ".part")
    building.write_text(page, encoding="utf-8")
    building.replace(path)


def section(name: str, heading: str, *content: str) -> str:
    """A headed part of the page that the menu can jump to; nothing when there is no content."""
    inner = "".join(content)
    return f'<section id="{escape(name)}"><h2>{escape(heading)}</h2>{inner}</section>' if inner else ""


def text(words: str, kind: str = "") -> str:
    return f"<p{_kind(kind)}>{escape(words)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table that scrolls sideways by itself where it is wider than the page."""
    if not rows:
        return ""
    top = "".join(f"<th scope=col>{escape(h)}</th>" for h in head)
    body = "".join(f"<tr><th scope=row>{escape(r[0])}</th>{_cells(r[1:])}</tr>" for r in rows)
    return f'<div class="wide"><table{_kind(kind)}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(caption: str, content: str) -> str:
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def more(summary: str, content: str) -> str:
    """Folded away on a screen, open on paper."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _cells(cells: Sequence[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in cells)


def _kind(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""
