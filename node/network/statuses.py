"""What an answer of a peer means for an object that was sent: stored, try again, or never.

The words go into reports that a person reads. Nothing here touches the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["stored", "warning", "retry", "permanent"]


@dataclass(frozen=True)
class Outcome:
    """What became of one object: the DIMSE status if there was one, the peer's answer in words, what to do."""

    status: int | None
    error: str
    kind: Kind
    form: tuple[str, str] | None = field(default=None, compare=False)
    """SOP Class and Transfer Syntax UID in which it went."""
    untaken: bool = False
    """The peer takes the object in none of its forms."""
    words: str = field(default="", compare=False)
    """What the status means."""


# PS3.4 B.2.3, PS3.7 Annex C. What is not listed is taken as permanent.
_STATUSES: dict[int, tuple[Kind, str]] = {
    0x0105: ("permanent", "no such attribute"),
    0x0106: ("permanent", "invalid attribute value"),
    0x0107: ("warning", "attribute list error"),
    0x0110: ("retry", "processing failure"),
    # It has an object by this UID already. Our UIDs name their content, so it is the one that was sent before.
    0x0111: ("warning", "duplicate SOP instance: it already has an object by this UID"),
    0x0112: ("permanent", "no such SOP instance"),
    0x0113: ("permanent", "no such event type"),
    0x0114: ("permanent", "no such argument"),
    0x0115: ("permanent", "invalid argument value"),
    0x0116: ("warning", "attribute value out of range"),
    0x0117: ("permanent", "invalid SOP instance"),
    0x0118: ("permanent", "no such SOP class"),
    0x0119: ("permanent", "class and instance conflict"),
    0x0120: ("permanent", "missing attribute"),
    0x0121: ("permanent", "missing attribute value"),
    # Some peers answer it while they start; the owner counts, and gives up at the second time.
    0x0122: ("retry", "SOP class not supported"),
    0x0123: ("permanent", "no such action"),
    0x0124: ("permanent", "not authorised"),
    0x0131: ("permanent", "duplicate transaction UID"),
    0x0210: ("retry", "duplicate invocation"),
    0x0211: ("permanent", "unrecognised operation"),
    0x0212: ("permanent", "mistyped argument"),
    0x0213: ("retry", "resource limitation"),
    0xB000: ("warning", "coercion of data elements"),
    0xB006: ("warning", "elements discarded"),
    0xB007: ("warning", "data set does not match SOP class"),
    0xFE00: ("retry", "cancelled"),
}

# (first, last): PS3.4 Table B.2-1 gives whole ranges; every other 0xBxxx is a warning (PS3.7 C.4.2).
_RANGES: dict[tuple[int, int], tuple[Kind, str]] = {
    (0xA700, 0xA7FF): ("retry", "out of resources"),
    (0xA900, 0xA9FF): ("permanent", "data set does not match SOP class"),
    (0xB000, 0xBFFF): ("warning", "warning"),
    (0xC000, 0xCFFF): ("permanent", "cannot understand"),
}

# PS3.8 Table 9-21, by source and diagnostic
_REJECTIONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given by its ACSE",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


def classify(status: int, comment: str = "") -> Outcome:
    """The meaning of a response's status, with the peer's Error Comment if it sent one."""
    if status == 0x0000:
        return Outcome(status, "", "stored", words="success")
    kind, words = _STATUSES.get(status) or _in_range(status)
    said = f" ({comment})" if comment else ""
    return Outcome(status, f"answered 0x{status:04X}, {words}{said}", kind, words=words)


def meanings() -> Iterator[tuple[int, int, Kind, str]]:
    """All that is known of statuses: the first and the last of a range, what is done, what it means."""
    yield 0x0000, 0x0000, "stored", "success"
    yield from ((status, status, kind, words) for status, (kind, words) in _STATUSES.items())
    yield from ((first, last, kind, words) for (first, last), (kind, words) in _RANGES.items())


def _in_range(status: int) -> tuple[Kind, str]:
    for (first, last), meaning in _RANGES.items():
        if first <= status <= last:
            return meaning
    return "permanent", "unknown status"


def rejection(result: int, source: int, diagnostic: int) -> str:
    """An A-ASSOCIATE-RJ in words."""
    duration = {1: "permanently", 2: "for now"}.get(result, f"(result {result})")
    reason = _REJECTIONS.get((source, diagnostic), f"source {source}, reason {diagnostic}")
    return f"rejects the association {duration}: {reason}"
