from __future__ import annotations

from datetime import UTC, datetime

import pytest

from node.results.page import BLUE, Pages, Row, printable


def made(*lines: str) -> Pages:
    pages = Pages(title="Title", banner="BANNER", foot="foot", when=datetime(2026, 3, 1, tzinfo=UTC))
    for line in lines:
        pages.line(line)
    return pages


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("größer, 50 %", "größer, 50 %"),
        ("a – b “c” …", 'a - b "c" ...'),
        ("肺 a", "[U+80BA] a"),
        ("a\tb\r\nc", "a b  c"),
        ("\x00\x07\ud800", "[U+0000][U+0007][U+D800]"),
        ("(a) \\ Tj", "(a) \\ Tj"),
    ],
)
def test_every_text_can_be_printed(text: str, printed: str) -> None:
    assert printable(text) == printed


def test_the_same_calls_give_the_same_bytes() -> None:
    assert made("a").to_bytes() == made("a").to_bytes() != made("b").to_bytes()


def test_its_date_is_the_one_that_was_given() -> None:
    assert b"D:20260301000000" in made("a").to_bytes()


def test_what_is_drawn_is_kept() -> None:
    pages = made("one", "two")
    pages.fact("name", "value")
    pages.table([Row("finding", "1 %", "Absent", "from 2 %", 0.01, 0.02, BLUE)])
    assert pages.said == [
        "BANNER", "foot", "Title", "one", "two", "name", "value", "finding", "1 %", "Absent", "from 2 %",
    ]  # fmt: skip


def test_a_text_that_is_wider_than_its_column_is_made_smaller_not_cut() -> None:
    pages = made()
    pages.table([Row("a very long name of a finding " * 3, "1 %", "Absent", "from 2 %", None, 0.02, BLUE)])
    assert ("a very long name of a finding " * 3) in pages.said


def test_a_word_without_end_is_broken() -> None:
    assert made("x" * 5000).to_bytes().startswith(b"%PDF")
