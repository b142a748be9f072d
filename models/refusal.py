"""The one exception that says why an image cannot be analysed, in words for a radiologist."""

from __future__ import annotations

SLUGS = frozenset(
    {
        "altered",
        "colour",
        "multi_frame",
        "no_pixels",
        "not_dicom",
        "too_large",
        "truncated",
        "undecodable",
        "unreadable",
        "unsupported",
    }
)


class NotAnalysable(Exception):
    """This file holds no image that a model may see.

    `code` is one of SLUGS; `reason` is a sentence without patient data.
    """

    def __init__(self, code: str, reason: str) -> None:
        if code not in SLUGS:
            raise ValueError(f"{code}: no such reason (have: {', '.join(sorted(SLUGS))})")
        super().__init__(reason)
        self.code = code
        self.reason = reason

    def __reduce__(self) -> tuple[type[NotAnalysable], tuple[str, str]]:
        return type(self), (self.code, self.reason)
