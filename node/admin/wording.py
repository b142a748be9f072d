"""Numbers in words, for people."""

from __future__ import annotations

from datetime import datetime


def plural(n: int, noun: str, nouns: str = "") -> str:
    """A number with its noun, as "1 study" and "2 studies"."""
    return f"{n} {noun if n == 1 else nouns or f'{noun}s'}"


def moment(seconds: float | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time in this machine's zone; empty where there is none."""
    return datetime.fromtimestamp(seconds).astimezone().strftime(form) if seconds else ""
