"""Numbers in words, for people."""

from __future__ import annotations


def plural(n: int, noun: str, nouns: str = "") -> str:
    """A number with its noun, as "1 study" and "2 studies"."""
    return f"{n} {noun if n == 1 else nouns or f'{noun}s'}"
