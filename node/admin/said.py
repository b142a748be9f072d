"""What one examination of `overread check` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Said:
    """One line: what was looked at, the verdict, and in the text what to change where that is needed."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    text: str
