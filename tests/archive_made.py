"""A PACS by pynetdicom's own server, with storage commitment and C-FIND, that misbehaves as it is told.

Independent of our network room on purpose, but for one fault of pynetdicom as an SCU: what we speak is understood by
somebody else.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from node.network import stack

PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
Report = tuple[int, Dataset]


class Archive:
    """Keeps the UIDs of what it is sent. It reports `how`: on the "same" association, on a "new" one, "never", on the
    same association "before" its answer to the request, or the new one "twice"; `commits=False` and `finds=False`
    leave these services out.

    `store(uid)` gives the status of a C-STORE, or None for an abort. `altered` may change what is reported. `action` is
    the status of an N-ACTION. `counts` holds how many instances it says that a study has, `reported` what the node
    answered to each report.
    """

    def __init__(
        self, *, how: str = "new", node_port: int = 0, commits: bool = True, finds: bool = False, port: int = 0
    ) -> None:
        self.how, self.node_port = how, node_port
        self.objects: dict[str, str] = {}
        self.received: Counter[str] = Counter()
        self.requests: list[tuple[str, list[str]]] = []
        self.queries: list[str] = []
        self.counts: dict[str, object] = {}
        self.reported: list[int | None] = []
        self.associations = 0
        self.pause = 0.0
        self.action: Callable[[], int] = lambda: 0x0000
        self.query: Callable[[], int] = lambda: 0x0000
        self.store: Callable[[str], int | None] = lambda uid: 0x0000
        self.altered: Callable[[Dataset], Dataset] = lambda ds: ds
        self._threads: list[threading.Thread] = []
        ae = AE("PACS")
        ae.maximum_associations = 100
        ae.supported_contexts = AllStoragePresentationContexts
        ae.add_supported_context(Verification)
        if commits:
            ae.add_supported_context(StorageCommitmentPushModel, PLAIN)
        if finds:
            ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind, PLAIN)
        self._server: Any = ae.start_server(
            ("127.0.0.1", port),
            block=False,
            evt_handlers=[
                (evt.EVT_REQUESTED, self._on_requested),
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_N_ACTION, self._on_action),
                (evt.EVT_C_FIND, self._on_find),
            ],
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def stop(self) -> None:
        for thread in self._threads:
            thread.join(10)
        self._server.shutdown()

    def _on_requested(self, event: Any) -> None:
        self.associations += 1

    def _on_store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.received[uid] += 1
        status = self.store(uid)
        if status is None:
            event.assoc.abort()
            return 0xC000
        if status == 0x0000 or status & 0xF000 == 0xB000:
            self.objects[uid] = str(event.request.AffectedSOPClassUID)
        return status

    def _on_find(self, event: Any) -> Any:
        if event.identifier.QueryRetrieveLevel != "IMAGE":
            yield from self._counted(event.identifier)
            return
        uid = str(event.identifier.SOPInstanceUID)
        self.queries.append(uid)
        status = self.query()
        if status:
            yield status, None
        elif uid in self.objects:
            found = Dataset()
            found.QueryRetrieveLevel = "IMAGE"
            found.StudyInstanceUID, found.SeriesInstanceUID = "1.2", "1.2.3"
            found.SOPInstanceUID = uid
            yield 0xFF00, found

    def _counted(self, asked: Dataset) -> Any:
        """Number of Study Related Instances, of the studies in `counts`; None: it is not told. It tells no series."""
        if asked.QueryRetrieveLevel == "SERIES":
            return
        uid = str(asked.StudyInstanceUID)
        self.queries.append(uid)
        if status := self.query():
            yield status, None
        elif uid in self.counts:
            found = Dataset()
            found.QueryRetrieveLevel, found.StudyInstanceUID = "STUDY", uid
            if self.counts[uid] is not None:
                found.NumberOfStudyRelatedInstances = self.counts[uid]
            yield 0xFF00, found

    def _on_action(self, event: Any) -> tuple[int, None]:
        assert event.action_type == 1
        ds = event.action_information
        self.requests.append((ds.TransactionUID, [i.ReferencedSOPInstanceUID for i in ds.ReferencedSOPSequence]))
        status = self.action()
        if status == 0x0000:
            report = self._judged(ds)
            if self.how == "before":
                self._told(event.assoc, report)
            elif self.how == "same":
                self._later(lambda: self._told(event.assoc, report))
            elif self.how in ("new", "twice"):
                self._later(lambda: self.report(report, times=2 if self.how == "twice" else 1))
        return status, None

    def _judged(self, asked: Dataset) -> Report:
        ds = Dataset()
        ds.TransactionUID = asked.TransactionUID
        kept, failed = [], []
        for item in asked.ReferencedSOPSequence:
            if self.objects.get(item.ReferencedSOPInstanceUID) == item.ReferencedSOPClassUID:
                kept.append(item)
            else:
                item.FailureReason = 0x0119 if item.ReferencedSOPInstanceUID in self.objects else 0x0112
                failed.append(item)
        if kept:
            ds.ReferencedSOPSequence = kept
        if failed:
            ds.FailedSOPSequence = failed
        ds = self.altered(ds)
        return 2 if "FailedSOPSequence" in ds else 1, ds

    def _later(self, step: Callable[[], None]) -> None:
        def wait_and_step() -> None:
            time.sleep(max(self.pause, 0.05))  # so that the answer to the request is out
            step()

        self._threads.append(threading.Thread(target=wait_and_step, daemon=True))
        self._threads[-1].start()

    def report(self, report: Report, *, times: int = 1, role: bool = True) -> None:
        """On an association of its own, as the SCP that it is."""
        ae = AE("PACS")
        ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = 5
        ae.add_requested_context(StorageCommitmentPushModel, PLAIN)
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if role else []
        assoc = ae.associate("127.0.0.1", self.node_port, ae_title="OVERREAD", ext_neg=roles)
        if not assoc.is_established:
            self.reported.append(None)
            return
        stack.keep_answers_apart(assoc)
        for _ in range(times):
            self._told(assoc, report)
        assoc.release()

    def _told(self, assoc: Any, report: Report) -> None:
        kind, ds = report
        try:
            answer, _ = assoc.send_n_event_report(
                ds, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        except (RuntimeError, ValueError):  # the association is over, or no role for it
            self.reported.append(None)
        else:
            self.reported.append(answer.get("Status"))


def report_of(transaction_uid: str, *kept: str, failed: dict[str, int] | None = None, sop_class: str = "1.2") -> Report:
    """A report as a PACS would make it."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid or generate_uid()
    ds.ReferencedSOPSequence = [_item(sop_class, uid) for uid in kept]
    if failed:
        ds.FailedSOPSequence = [_item(sop_class, uid, reason) for uid, reason in failed.items()]
    return 2 if failed else 1, ds


def _item(sop_class: str, uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    if reason is not None:
        item.FailureReason = reason
    return item
