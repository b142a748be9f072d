"""What a listener and its owner say to each other: who asks, what came, what is answered.

The records of storage commitment stand here too: both sides of it are asked and reported to in the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1
PROCESSING_FAILURE = 0x0110  # PS3.7 C.5.7
NO_SUCH_INSTANCE = 0x0112
CLASS_INSTANCE_CONFLICT = 0x0119
NO_SUCH_EVENT_TYPE = 0x0113
INVALID_ARGUMENT_VALUE = 0x0115
NO_SUCH_CLASS = 0x0118
CLASS_NOT_SUPPORTED = 0x0122
NO_SUCH_ACTION = 0x0123
NOT_AUTHORISED = 0x0124  # PS3.7 C.5.15
DUPLICATE_TRANSACTION_UID = 0x0131  # PS3.3 C.14.1.1
RESOURCE_LIMITATION = 0x0213
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
    """The DIMSE status of a response and its Error Comment, of which 64 characters are sent."""

    code: int
    comment: str = ""

    @property
    def as_lo(self) -> str:
        """The comment as a command set can hold it: an LO of the default repertoire (PS3.7 6.3.1), in which a
        backslash would part it in two."""
        return self.comment.replace("\\", "/").encode("ascii", "replace").decode("ascii")[:COMMENT_LENGTH]

    @property
    def data_set(self) -> Dataset:
        """As a handler of pynetdicom returns it."""
        answer = Dataset()
        answer.Status = self.code
        if self.comment:
            answer.ErrorComment = self.as_lo
        return answer


@dataclass(frozen=True)
class Reference:
    """One instance that commitment is about (PS3.3 Table 10-11)."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class CommitmentRequest:
    """What an N-ACTION asks: whether these instances are kept (PS3.4 J.3.2)."""

    transaction_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True)
class CommitmentReport:
    """What an N-EVENT-REPORT says: what is kept, and what is not with its Failure Reason (PS3.4 J.3.3)."""

    transaction_uid: str
    kept: tuple[Reference, ...] = ()
    failed: tuple[tuple[Reference, int], ...] = ()


@dataclass(frozen=True)
class Callbacks:
    """What a listener asks its owner; each is called from the association's own thread."""

    admit: Callable[[Requestor], Rejection | None]
    on_accept: Callable[[str, Requestor], None]
    """(association, requestor): before the acceptance goes out; if it raises, the association is rejected."""
    on_instance: Callable[[Incoming], Status]
    on_end: Callable[[str, str], None]
    """(association, "released" | "aborted"): once for every association of which `on_accept` was told."""
    on_commitment_request: Callable[[str, CommitmentRequest], Status]
    """(association, request): success when the request is kept and will be reported on."""
    on_commitment_report: Callable[[str, CommitmentReport], Status]
    """(association, report) on what we asked."""
    on_reject: Callable[[Requestor, Rejection], None] = lambda requestor, rejection: None
    """Told of each association that was refused; it must not wait."""


CALLED_AE_TITLE = Rejection(1, 1, 7, "called-ae-title")
MAX_ASSOCIATIONS = Rejection(2, 3, 2, "max-associations")
STOPPING = Rejection(2, 3, 1, "stopping")
# The fault is here: transient, so that the sender comes again.
FAILED = Rejection(2, 1, 1, "failed")
