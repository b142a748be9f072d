"""Storage commitment on the wire (PS3.4 Annex J), both ways: ask and be reported to, be asked and report.

It knows no rows and no files: what is asked and reported goes to an owner, who gives the status.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from node.domain import Pair
from node.network import contexts
from node.network.incoming import (
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_ACTION,
    NO_SUCH_CLASS,
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    CommitmentReport,
    CommitmentRequest,
    Reference,
    Status,
)
from node.network.link import Link
from node.network.statuses import Outcome, classify

log = logging.getLogger(__name__)

MODEL, INSTANCE = str(StorageCommitmentPushModel), str(StorageCommitmentPushModelInstance)
PAIRS: tuple[Pair, ...] = tuple((MODEL, syntax) for syntax in map(str, contexts.UNCOMPRESSED))
REQUEST = 1  # PS3.4 Table J.3-1, Action Type ID
COMPLETE, FAILURES_EXIST = 1, 2  # PS3.4 Table J.3-2, Event Type ID
UID = re.compile(r"[0-9.]{1,64}")

Answer = tuple[Dataset, None]


class _Refused(Exception):
    """What came is no request or report of storage commitment; the status says why."""

    def __init__(self, code: int, comment: str) -> None:
        super().__init__(comment)
        self.status = Status(code, comment)


def ask(link: Link, request: CommitmentRequest) -> Outcome:
    """Ask a peer for commitment (N-ACTION); a report may come on this association or on one that the peer opens."""
    ds = Dataset()
    ds.TransactionUID = request.transaction_uid
    ds.ReferencedSOPSequence = [_item(reference) for reference in request.references]
    return _answered(link, lambda: link.assoc.send_n_action(ds, REQUEST, MODEL, INSTANCE, link.next_message()))


def report(link: Link, said: CommitmentReport) -> Outcome:
    """Report to a peer on an association of our own, on which it agreed to our being the SCP (N-EVENT-REPORT)."""
    ds, kind = _information(said)
    return _answered(link, lambda: link.assoc.send_n_event_report(ds, kind, MODEL, INSTANCE, link.next_message()))


def report_back(assoc: Any, said: CommitmentReport) -> Outcome:
    """Report on the association on which was asked; not from within one of its handlers."""
    ds, kind = _information(said)
    try:
        answer, _ = assoc.send_n_event_report(ds, kind, MODEL, INSTANCE)
    except (RuntimeError, ValueError) as error:
        return Outcome(None, f"the report could not be sent: {error}", "retry")
    if "Status" in answer:
        return classify(answer.Status, str(answer.get("ErrorComment", "")))
    return Outcome(None, "the association ended without an answer to the report", "retry")


def _answered(link: Link, send: Callable[[], tuple[Any, Any]]) -> Outcome:
    started = time.monotonic()
    try:
        with link.within(link.target.timeout + 1):
            answer, _ = send()
    except (RuntimeError, ValueError, OSError) as error:  # no such role or context; the association is gone
        return Outcome(None, f"{link.target}: {error}", "retry")
    if "Status" in answer:
        return classify(answer.Status, str(answer.get("ErrorComment", "")))
    link.late = link.late or time.monotonic() - started >= link.target.timeout
    return Outcome(None, f"{link.target} {link.lost()}", "retry")


def request_handler(asked: Callable[[Any, CommitmentRequest], Status]) -> tuple[Any, Callable[[Any], Answer]]:
    """For associations on which we are asked: `asked(association, request)` gives the status."""
    return evt.EVT_N_ACTION, lambda event: _given(lambda: asked(event.assoc, _request(event)))


def report_handler(reported: Callable[[Any, CommitmentReport], Status]) -> tuple[Any, Callable[[Any], Answer]]:
    """For associations on which is reported to us, be they ours or the peer's: as `request_handler`."""
    return evt.EVT_N_EVENT_REPORT, lambda event: _given(lambda: reported(event.assoc, _report(event)))


def _given(answer: Callable[[], Status]) -> Answer:
    """The status of an answer, whatever happens in it; pynetdicom would log what an exception says."""
    try:
        status = answer()
    except _Refused as refused:
        status = refused.status
        log.warning("commitment.refused status=0x%04X reason=%r", status.code, status.comment)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = "commitment.failed error=%s at=%s:%s"
        log.error(what, type(error).__name__, Path(place.filename).name, place.lineno)
        status = Status(PROCESSING_FAILURE)
    return status.data_set, None


def _request(event: Any) -> CommitmentRequest:
    asked = event.request
    _see_model(str(asked.RequestedSOPClassUID), str(asked.RequestedSOPInstanceUID))
    if asked.ActionTypeID != REQUEST:
        raise _Refused(NO_SUCH_ACTION, "the Action Type ID of storage commitment is 1")
    ds = event.action_information
    references = tuple(_references(ds.get("ReferencedSOPSequence") or []))
    if not references:
        raise _Refused(INVALID_ARGUMENT_VALUE, "Referenced SOP Sequence is missing or empty")
    return CommitmentRequest(_uid(ds, "TransactionUID"), references)


def _report(event: Any) -> CommitmentReport:
    said = event.request
    _see_model(str(said.AffectedSOPClassUID), str(said.AffectedSOPInstanceUID))
    if said.EventTypeID not in (COMPLETE, FAILURES_EXIST):
        raise _Refused(NO_SUCH_EVENT_TYPE, "the Event Type IDs of storage commitment are 1 and 2")
    ds = event.event_information
    items = ds.get("FailedSOPSequence") or []
    reasons = [int(item.get("FailureReason") or PROCESSING_FAILURE) for item in items]
    failed = dict(zip(_references(items), reasons, strict=True))
    kept = [r for r in _references(ds.get("ReferencedSOPSequence") or []) if r not in failed]
    return CommitmentReport(_uid(ds, "TransactionUID"), tuple(kept), tuple(failed.items()))


def _see_model(sop_class: str, instance: str) -> None:
    if sop_class != MODEL:
        raise _Refused(NO_SUCH_CLASS, "not the Storage Commitment Push Model")
    if instance != INSTANCE:
        raise _Refused(NO_SUCH_INSTANCE, "not the well-known instance of storage commitment")


def _references(items: Iterable[Dataset]) -> list[Reference]:
    return [Reference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID")) for item in items]


def _uid(ds: Dataset, keyword: str) -> str:
    uid = str(ds.get(keyword, ""))
    if not UID.fullmatch(uid):
        raise _Refused(INVALID_ARGUMENT_VALUE, f"{keyword} is missing or no UID")
    return uid


def _information(said: CommitmentReport) -> tuple[Dataset, int]:
    """Event Information and Event Type ID (PS3.4 Table J.3-2)."""
    ds = Dataset()
    ds.TransactionUID = said.transaction_uid
    if said.kept:
        ds.ReferencedSOPSequence = [_item(reference) for reference in said.kept]
    if said.failed:
        ds.FailedSOPSequence = [_item(reference, reason) for reference, reason in said.failed]
    return ds, FAILURES_EXIST if said.failed else COMPLETE


def _item(reference: Reference, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    if reason is not None:
        item.FailureReason = reason
    return item
