"""C-GET and C-MOVE of one study over an association (PS3.4 C.4.2, C.4.3): asked for, waited for, and the last answer.

Nothing here takes what comes: by C-GET whoever opened the association does, by C-MOVE the listener.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from node.domain import Pair
from node.errors import PeerError
from node.network import contexts
from node.network.link import Link
from node.network.query import PENDING
from node.network.statuses import classify

GET, MOVE = str(StudyRootQueryRetrieveInformationModelGet), str(StudyRootQueryRetrieveInformationModelMove)
GET_PAIRS: tuple[Pair, ...] = tuple((GET, str(syntax)) for syntax in contexts.UNCOMPRESSED)
MOVE_PAIRS: tuple[Pair, ...] = tuple((MOVE, str(syntax)) for syntax in contexts.UNCOMPRESSED)
DESTINATION_UNKNOWN = 0xA801  # PS3.4 Table C.4-2
# PS3.4 Tables C.4-2 and C.4-3, where they say more than the statuses of C-STORE
WORDS = {
    0xA701: "out of resources: it cannot count the matches",
    0xA702: "out of resources: it cannot perform the sub-operations",
    0xA900: "the identifier does not match the SOP class",
}


@dataclass(frozen=True)
class Final:
    """The last answer to a C-GET or C-MOVE, with the sub-operations that it counts."""

    status: int
    completed: int
    failed: int
    comment: str = ""


def perform(link: Link, model: str, uid: str, *, silence: float, heard: Callable[[], None] = lambda: None) -> Final:
    """Ask for one study, by C-MOVE to our own AE title, and wait until its sub-operations are over.

    `heard` is called with each answer that more is to come; `silence` (seconds) is the longest time without any.

    Raises:
        PeerError: there was no last answer; what came until then was taken.
    """
    ds = identifier(uid)
    final: Final | None = None
    message = link.next_message()
    try:
        with link.while_it_speaks(silence):
            if model == GET:
                answers: Any = link.assoc.send_c_get(ds, model, msg_id=message)
            else:
                answers = link.assoc.send_c_move(ds, link.target.calling_ae_title, model, msg_id=message)
            for answer, _ in answers:
                if answer.get("Status") in PENDING:
                    heard()
                elif "Status" in answer:
                    final = _final(answer)
    except (RuntimeError, ValueError, OSError) as error:
        raise PeerError(f"{link.target}: {error}") from None
    finally:
        if final is None and link.alive:
            with suppress(RuntimeError, ValueError):
                link.assoc.send_c_cancel(message, query_model=model)
            link.assoc.abort()
    if final is None:
        raise PeerError(f"{link.target} {link.lost()} to the {'C-GET' if model == GET else 'C-MOVE'}")
    return final


def identifier(study_instance_uid: str) -> Dataset:
    """What is asked for: one study, by its unique key."""
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    ds.StudyInstanceUID = study_instance_uid
    return ds


def reason_of(final: Final, failed: int) -> str:
    """What a last answer says that is no success, in words."""
    said = f" ({final.comment})" if final.comment else ""
    if final.status in (0x0000, 0xB000):
        return f"the peer could not send {failed or 'all'} of its instances{said}"
    words = WORDS.get(final.status)
    return f"answered 0x{final.status:04X}, {words}{said}" if words else classify(final.status, final.comment).error


def _final(answer: Dataset) -> Final:
    completed, failed, warned = (
        int(answer.get(f"NumberOf{kind}Suboperations") or 0) for kind in ("Completed", "Failed", "Warning")
    )
    # PS3.4 C.4.2.1.8: a sub-operation with a warning was performed
    return Final(int(answer.Status), completed + warned, failed, str(answer.get("ErrorComment", "")))
