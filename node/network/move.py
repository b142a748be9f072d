"""C-MOVE (PS3.4 C.4.2): have a peer send a study to an AE title that it knows."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove

from node.domain import Pair
from node.errors import PeerError
from node.network import contexts
from node.network.link import Link

MODEL = str(StudyRootQueryRetrieveInformationModelMove)
PAIRS: tuple[Pair, ...] = tuple((MODEL, syntax) for syntax in map(str, contexts.UNCOMPRESSED))
PENDING = 0xFF00
DESTINATION_UNKNOWN = 0xA801  # PS3.4 Table C.4-2


@dataclass(frozen=True)
class Moved:
    """The last answer: its status, and how many sub-operations succeeded and failed."""

    status: int
    completed: int
    failed: int


def move(link: Link, study_instance_uid: str, destination: str, *, seconds: float) -> Moved:
    """Ask a peer to send a study to an AE title; returns when it has, or could not, `seconds` later at the most.

    Raises:
        PeerError: it did not answer.
    """
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    ds.StudyInstanceUID = study_instance_uid
    link.assoc.dimse_timeout = seconds
    last, started = Dataset(), time.monotonic()
    try:
        with link.within(seconds):
            for answer, _ in link.assoc.send_c_move(ds, destination, MODEL, msg_id=link.next_message()):
                last = answer
    except (RuntimeError, ValueError, OSError) as error:
        raise PeerError(f"{link.target}: {error}") from None
    if "Status" not in last or last.Status == PENDING:
        link.late = link.late or time.monotonic() - started >= seconds
        raise PeerError(f"{link.target} {link.lost()} to the C-MOVE")
    counted = (last.get("NumberOfCompletedSuboperations"), last.get("NumberOfFailedSuboperations"))
    completed, failed = (int(n or 0) for n in counted)
    return Moved(int(last.Status), completed, failed)
