"""C-FIND for one instance by its UIDs (PS3.4 C.6.2), and for nothing else: does a peer hold it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from node.domain import Pair
from node.errors import PeerError
from node.network import contexts
from node.network.link import Link
from node.network.statuses import classify

MODEL = str(StudyRootQueryRetrieveInformationModelFind)
PAIRS: tuple[Pair, ...] = tuple((MODEL, syntax) for syntax in map(str, contexts.UNCOMPRESSED))
PENDING = (0xFF00, 0xFF01)  # PS3.4 Table C.4-1
MOST_MATCHES = 100
"""For one SOP Instance UID: a peer that answers more does not match by it."""


@dataclass(frozen=True)
class Sought:
    """One instance and where it belongs: PS3.4 C.4.1.2.1 asks for the unique keys of all levels above."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


def holds(link: Link, sought: Sought) -> bool:
    """Whether the peer says that it has this instance.

    Raises:
        PeerError: it did not answer the question.
    """
    ds = identifier(sought)
    started = time.monotonic()
    try:
        with link.within(link.target.timeout + 1):
            status, found = _asked(link, ds)
    except (RuntimeError, ValueError, OSError) as error:
        raise PeerError(f"{link.target}: {error}") from None
    if status == 0x0000 or found:
        return found
    if status is None:
        link.late = link.late or time.monotonic() - started >= link.target.timeout
        raise PeerError(f"{link.target} {link.lost()} to the C-FIND")
    raise PeerError(f"{link.target}: the C-FIND was {classify(status).error}")


def identifier(sought: Sought) -> Dataset:
    """What is asked: the level and its unique keys."""
    ds = Dataset()
    ds.QueryRetrieveLevel = "IMAGE"
    ds.StudyInstanceUID = sought.study_instance_uid
    ds.SeriesInstanceUID = sought.series_instance_uid
    ds.SOPInstanceUID = sought.sop_instance_uid
    return ds


def _asked(link: Link, ds: Dataset) -> tuple[int | None, bool]:
    """The last status, and whether one of the matches was what was asked for."""
    found, matches, status = False, 0, None
    answers: Any = link.assoc.send_c_find(ds, MODEL, msg_id=link.next_message())
    for answer, match in answers:  # all of them: what is left unread would answer the next question
        status = answer.get("Status")
        if status in PENDING and match is not None:
            found = found or str(match.get("SOPInstanceUID", "")) == ds.SOPInstanceUID
            matches += 1
            if matches > MOST_MATCHES:
                link.assoc.abort()
                raise RuntimeError("the C-FIND by SOP Instance UID is answered with everything")
    return status, found
