"""What the labels of a network that was made elsewhere mean: which are findings, and how they are coded.

A name that `models.codes` does not know gets a private code; none is ever guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from models.bundle import CodeSpec
from models.codes import BODY_PARTS, FINDINGS, PRIVATE_SCHEME, SOMETHING, TRIAGE, Code, Concept
from models.foreign import ImportRefused, read_json

NO_FINDING = frozenset({"normal", "healthy", "negative", "nofinding", "nofindings"})
"""Labels that name no finding, without case, spaces and signs."""
ALIASES = {"covid": "covid19"}


def is_finding(name: str, labels: Sequence[str]) -> bool:
    """Whether a label names something to report. "normal" and its like do not, nor does "non-X" or "no X" beside X."""
    plain = plainly(name)
    others = {plainly(label) for label in labels}
    negated = any(plain.startswith(word) and plain.removeprefix(word) in others for word in ("non", "not", "no"))
    return plain not in NO_FINDING and not negated


def plainly(name: str) -> str:
    """A name without case, spaces and signs."""
    return re.sub(r"[\W_]", "", name.casefold())


def concepts(codes: Path | None, labels: Sequence[str]) -> dict[str, Concept]:
    """Each label's concept: as given in the file `codes` (JSON, label -> finding and site, each value, scheme and
    meaning), else as `models.codes` knows it, else a private code of an unnamed site.

    Raises:
        ImportRefused: the file is wrong, or two labels get the same code.
    """
    given = read_json(codes, TypeAdapter(dict[str, dict[Literal["finding", "site"], CodeSpec]])) if codes else {}
    for name, said in given.items():
        if name not in labels or len(said) != 2:
            raise ImportRefused(f"{codes}: {name}: finding and site of one of {', '.join(labels)} are needed")
    known = {plainly(name): concept for table in (FINDINGS, TRIAGE, BODY_PARTS) for name, concept in table.items()}
    found = {}
    for name in labels:
        plain = plainly(name)
        if name in given:
            found[name] = Concept(given[name]["finding"].code, given[name]["site"].code)
        else:
            found[name] = known.get(ALIASES.get(plain, plain)) or Concept(_private(name), SOMETHING)
    if len({(c.finding.scheme, c.finding.value) for c in found.values()}) != len(found):
        raise ImportRefused(f"--labels {','.join(labels)}: two of them get the same code; give them in --codes FILE")
    return found


def _private(name: str) -> Code:
    """A code of our own; PS3.5 Table 6.2-1 allows 16 characters in its value (SH) and 64 in its meaning (LO)."""
    return Code(re.sub(r"\W+", "_", name.upper())[:16], PRIVATE_SCHEME, name)
