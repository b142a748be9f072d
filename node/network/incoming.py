"""What a listener and its owner say to each other: who asks, what came, what is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1
PROCESSING_FAILURE = 0x0110  # PS3.7 C.5.7
NOT_AUTHORISED = 0x0124  # PS3.7 C.5.15
COMMENT_LENGTH = 64  # Error Comment (0000,0902) is an LO


@dataclass(frozen=True)
class Requestor:
    """Who asks for an association; AE titles without padding. `certificate`: the SHA-256 of the one that was shown, ""
    in plain."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    port: int
    certificate: str = ""


@dataclass(frozen=True)
class Incoming:
    """One instance as received: its command's UIDs and a Part 10 file that holds the sender's bytes unaltered.

    `digest`: BLAKE3 of the data set where it was computed on the way, else "". The callback may rename the file away;
    what is left is deleted when it returns.
    """

    association: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: Path
    digest: str = ""


@dataclass(frozen=True)
class Rejection:
    """Why somebody does not associate: result, source and diagnostic of PS3.8 Table 9-21, and our rule's name."""

    result: int
    source: int
    diagnostic: int
    rule: str


@dataclass(frozen=True)
class Status:
    """The DIMSE status of a C-STORE response and its Error Comment, of which 64 characters are sent."""

    code: int
    comment: str = ""

    @property
    def as_lo(self) -> str:
        """The comment as a command set can hold it: an LO of the default repertoire (PS3.7 6.3.1), in which a
        backslash would part it in two."""
        return self.comment.replace("\\", "/").encode("ascii", "replace").decode("ascii")[:COMMENT_LENGTH]


@dataclass(frozen=True)
class Callbacks:
    """What a listener asks its owner; each is called from the association's own thread."""

    admit: Callable[[Requestor], Rejection | None]
    on_accept: Callable[[str, Requestor], None]
    """(association, requestor): before the acceptance goes out; if it raises, the association is rejected."""
    on_instance: Callable[[Incoming], Status]
    on_end: Callable[[str, str], None]
    """(association, "released" | "aborted"): once for every association of which `on_accept` was told."""


CALLED_AE_TITLE = Rejection(1, 1, 7, "called-ae-title")
MAX_ASSOCIATIONS = Rejection(2, 3, 2, "max-associations")
STOPPING = Rejection(2, 3, 1, "stopping")
# The fault is here: transient, so that the sender comes again.
FAILED = Rejection(2, 1, 1, "failed")
