"""The limits of the audit, what one check says, and the verdict that follows from all of them.

The limits stand in one table and no recipe overrides them. A check that was not run forbids a "pass"; an external set
that nobody gave does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

LIMITS = {
    "pixel_baseline_auc": 0.90,  # finding: that much from 32 x 32 grey pixels is source or age, not disease
    "metadata_baseline_auc": 0.90,  # finding: the same without any pixel; also of source alone and of age group alone
    "telling_auc": 0.80,  # a column of that much alone is named to the reader when the metadata baseline fails
    "kept_without_organ": 0.90,  # finding: more than this part of (AUC - 0.5) does not come from the organ
    "matched_accuracy": 0.90,  # anatomy, mean of the classes at 64 px: less means that resolution told them apart
    # of 256: two encodings of one film differ in fewer, two films in more (measured, see `leaks`)
    "perceptual_bits": 16,
}
NOT_THE_DISEASE = "So much cannot come from the disease: the figure measures age, source or how the films were made."
COLLECTED_APART = "The classes were collected apart, and a model can learn that instead of the disease."

Status = Literal["pass", "warn", "fail", "reported", "not run", "not given"]
Question = Literal["finding", "anatomy"]


@dataclass(frozen=True)
class Check:
    """One check: what it found, in words; `value` is the worst label's number."""

    name: str
    status: Status
    text: str
    value: float | None = None


@dataclass(frozen=True)
class Audit:
    """Every check and the verdict; `summary` is for a reader who looks at nothing else."""

    question: Question
    verdict: Literal["pass", "warn", "fail"]
    summary: str
    checks: tuple[Check, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"limits": LIMITS}


def concluded(question: Question, checks: Sequence[Check]) -> Audit:
    """The verdict: fail if one check fails; pass only if there are checks, none warns and each was run."""
    every = tuple(checks)
    failed, warned, missing = ([c for c in every if c.status == status] for status in ("fail", "warn", "not run"))
    if failed:
        return Audit(question, "fail", "Do not believe the figures. " + " ".join(c.text for c in failed), every)
    if warned or missing or not every:
        doubts = [c.text for c in warned]
        if missing or not every:
            names = "; ".join(c.name for c in missing) or "all of them"
            doubts.append(f"Checks that have not been run: {names}.")
        return Audit(question, "warn", "Nothing speaks against the figures so far, but: " + " ".join(doubts), every)
    said = "No check of these films speaks against the figures. Films of another source were not asked."
    return Audit(question, "pass", said, every)
