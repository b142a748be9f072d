"""Storage commitment on the wire: both roles, both paths of the listener, in plain and with TLS."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archive_made import Archive, report_of
from certificates import Authority
from peers import Owner, until
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from node.network import commitment, stack
from node.network.incoming import CommitmentReport, CommitmentRequest, Reference, Status
from node.network.link import Link, Target, open_link
from node.network.listener import Listener
from node.network.tls import Identity

Listening = Callable[..., Listener]
SR = "1.2.840.10008.5.1.4.1.1.88.33"
ONE, OTHER = Reference(SR, "1.2.3.1"), Reference(SR, "1.2.3.2")
PATHS = pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "stock"])


def target(port: int | None, **options: Any) -> Target:
    assert port
    return Target("PACS", "OVERREAD", "127.0.0.1", port, 5, **options)


def information(*references: Reference, transaction: str = "2.25.7") -> Dataset:
    ds = Dataset()
    ds.TransactionUID = transaction
    items = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference.sop_class_uid, reference.sop_instance_uid
        items.append(item)
    ds.ReferencedSOPSequence = items
    return ds


def action(listener: Listener, ds: Dataset | None, kind: int = 1, instance: str = "") -> Any:
    """An N-ACTION by pynetdicom; the answer."""
    ae = AE("PACS")
    ae.acse_timeout = ae.dimse_timeout = 5
    ae.add_requested_context(StorageCommitmentPushModel)
    assoc = ae.associate("127.0.0.1", listener.port, ae_title="OVERREAD")
    assert assoc.is_established
    answer, _ = assoc.send_n_action(
        ds, kind, StorageCommitmentPushModel, instance or StorageCommitmentPushModelInstance
    )
    assoc.release()
    return answer


@PATHS
def test_a_request_reaches_the_owner_and_his_answer_the_peer(
    listening: Listening, owner: Owner, streaming: bool
) -> None:
    listener = listening(streaming=streaming)
    link = open_link(target(listener.port), commitment.PAIRS)
    request = CommitmentRequest("2.25.77.1", (ONE, OTHER))
    assert commitment.ask(link, request).kind == "stored"
    owner.committing = lambda: Status(0x0131, "used")
    outcome = commitment.ask(link, request)
    link.close()
    assert (outcome.status, outcome.kind) == (0x0131, "permanent")
    assert "duplicate transaction UID (used)" in outcome.error
    (name,) = owner.accepted
    assert owner.asked == [(name, request)] * 2


@PATHS
def test_a_report_comes_on_an_association_of_its_own(listening: Listening, owner: Owner, streaming: bool) -> None:
    listener = listening(streaming=streaming)
    link = open_link(target(listener.port), commitment.PAIRS, scp_of=[commitment.MODEL])
    report = CommitmentReport("2.25.77.1", (ONE,), ((OTHER, 0x0112),))
    assert commitment.report(link, report).kind == "stored"
    link.close()
    assert [said for _, said in owner.reported] == [report]


@PATHS
def test_all_of_it_works_over_tls(listening: Listening, owner: Owner, streaming: bool, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    listener = listening(streaming=streaming, port=None, secure_port=0, identity=Identity(authority.files("node")))
    to = target(listener.secure_port, identity=Identity(authority.files("peer")))
    asking = open_link(to, commitment.PAIRS)
    assert commitment.ask(asking, CommitmentRequest("2.25.1.1", (ONE,))).kind == "stored"
    asking.close()
    reporting = open_link(to, commitment.PAIRS, scp_of=[commitment.MODEL])
    assert commitment.report(reporting, CommitmentReport("2.25.1.1", (ONE,))).kind == "stored"
    reporting.close()
    assert (len(owner.asked), len(owner.reported)) == (1, 1)


@PATHS
def test_instances_and_requests_share_an_association(
    listening: Listening, owner: Owner, streaming: bool, make_file: Callable[..., Path]
) -> None:
    listener = listening(streaming=streaming)
    path = make_file()
    ae = AE("PACS")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.7", ExplicitVRLittleEndian)
    ae.add_requested_context(StorageCommitmentPushModel)
    assoc = ae.associate("127.0.0.1", listener.port, ae_title="OVERREAD")
    stack.keep_answers_apart(assoc)
    for n in range(3):
        assert assoc.send_c_store(path).Status == 0x0000
        ds = information(ONE, transaction=f"2.25.{n + 1}")
        answer, _ = assoc.send_n_action(ds, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        assert answer.Status == 0x0000
    assoc.release()
    assert (len(owner.received), len(owner.asked)) == (3, 3)


@PATHS
def test_a_request_for_many_thousand_instances_is_taken(listening: Listening, owner: Owner, streaming: bool) -> None:
    listener = listening(streaming=streaming)
    many = tuple(Reference(SR, generate_uid()) for _ in range(10_000))
    link = open_link(target(listener.port), commitment.PAIRS)
    assert commitment.ask(link, CommitmentRequest("2.25.1", many)).kind == "stored"
    link.close()
    assert owner.asked[0][1].references == many


@PATHS
@pytest.mark.parametrize(
    ("ds", "kind", "instance", "status"),
    [
        (information(ONE), 2, "", 0x0123),
        (information(ONE), 1, "1.2.3", 0x0112),
        (None, 1, "", 0x0115),
        (information(), 1, "", 0x0115),
        (information(ONE, transaction=""), 1, "", 0x0115),
        (information(Reference("", "1.2")), 1, "", 0x0115),
    ],
)
def test_what_is_no_request_is_refused_by_its_fault(
    listening: Listening, owner: Owner, streaming: bool, ds: Dataset | None, kind: int, instance: str, status: int
) -> None:
    answer = action(listening(streaming=streaming), ds, kind, instance)
    assert answer.Status == status
    assert owner.asked == []
    assert answer.ErrorComment


def test_an_owner_that_fails_is_a_processing_failure(
    listening: Listening, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Status:
        raise KeyError("Canary^Yellow")

    owner.committing = fail
    assert action(listening(), information(ONE)).Status == 0x0110
    assert "commitment.failed error=KeyError" in caplog.text
    assert "Canary" not in caplog.text


@pytest.mark.parametrize("role", [True, False], ids=["with role selection", "without"])
def test_a_report_is_taken_even_from_who_forgets_to_ask_for_his_role(
    listening: Listening, owner: Owner, role: bool
) -> None:
    listener = listening()
    ae = AE("PACS")
    ae.add_requested_context(StorageCommitmentPushModel)
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if role else []
    assoc = ae.associate("127.0.0.1", listener.port, ae_title="OVERREAD", ext_neg=roles)
    for context in assoc.accepted_contexts:
        context._as_scp = True
    kind, ds = report_of("2.25.5.1", "1.2.3")
    answer, _ = assoc.send_n_event_report(ds, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    assert answer.Status == 0x0000
    answer, _ = assoc.send_n_event_report(ds, 3, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    assert answer.Status == 0x0113
    assoc.release()
    assert [said.kept for _, said in owner.reported] == [(Reference("1.2", "1.2.3"),)]


def test_what_failed_was_not_kept_whatever_else_the_report_says(listening: Listening, owner: Owner) -> None:
    archive = Archive(node_port=listening().port or 0)
    archive.report(report_of("2.25.5.1", "1.2.3", "1.2.4", failed={"1.2.4": 0x0213}))
    archive.stop()
    assert archive.reported == [0x0000]
    ((_, said),) = owner.reported
    assert said.kept == (Reference("1.2", "1.2.3"),)
    assert said.failed == ((Reference("1.2", "1.2.4"), 0x0213),)


@pytest.mark.parametrize("how", ["same", "before"])
def test_a_report_on_the_same_association_is_taken(how: str) -> None:
    """Even when it comes before the answer to the request."""
    archive = Archive(how=how)
    archive.objects[ONE.sop_instance_uid] = SR
    reports: list[CommitmentReport] = []

    def reported(report: CommitmentReport) -> Status:
        reports.append(report)
        return Status(0x0000)

    link = _asking(archive, reported)
    for n in (1, 2):
        assert commitment.ask(link, CommitmentRequest(f"2.25.9.{n}", (ONE, OTHER))).kind == "stored"
        until(lambda n=n: len(reports) == n)  # type: ignore[misc]
    until(lambda: archive.reported == [0x0000, 0x0000])
    link.close()
    archive.stop()
    assert reports[1] == CommitmentReport("2.25.9.2", (ONE,), ((OTHER, 0x0112),))


def _asking(archive: Archive, reported: Callable[[CommitmentReport], Status]) -> Link:
    to = Target("OVERREAD", "PACS", "127.0.0.1", archive.port, 3)
    return open_link(to, commitment.PAIRS, handlers=[commitment.report_handler(lambda _, report: reported(report))])


def test_a_peer_that_does_not_answer_costs_its_timeout_and_no_more(owner: Owner) -> None:
    archive = Archive(how="never")
    archive.action = lambda: time.sleep(3) or 0  # type: ignore[func-returns-value]
    to = Target("OVERREAD", "PACS", "127.0.0.1", archive.port, 1)
    link = open_link(to, commitment.PAIRS)
    began = time.monotonic()
    outcome = commitment.ask(link, CommitmentRequest("2.25.9.1", (ONE,)))
    assert time.monotonic() - began < 2.5
    assert outcome.kind == "retry" and "did not answer in time" in outcome.error
    link.close()
    archive.stop()


@PATHS
def test_who_asked_is_told_on_his_own_association(listening: Listening, owner: Owner, streaming: bool) -> None:
    listener = listening(streaming=streaming)
    reports: list[CommitmentReport] = []

    def reported(report: CommitmentReport) -> Status:
        reports.append(report)
        return Status(0x0000)

    handler = commitment.report_handler(lambda _, report: reported(report))
    link = open_link(target(listener.port), commitment.PAIRS, handlers=[handler])
    assert commitment.ask(link, CommitmentRequest("2.25.9.1", (ONE,))).kind == "stored"
    ((name, _),) = owner.asked
    said = CommitmentReport("2.25.9.1", (ONE,))
    assert listener.report(name, said).kind == "stored"
    assert reports == [said]
    link.close()
    until(lambda: name in owner.ended)
    assert listener.report(name, said).kind == "retry"


def test_a_peer_that_does_not_take_the_report_is_told_again_later() -> None:
    archive = Archive()  # it has nobody for reports, and leaves the roles as they are
    link = open_link(
        Target("OVERREAD", "PACS", "127.0.0.1", archive.port, 3), commitment.PAIRS, scp_of=[commitment.MODEL]
    )
    outcome = commitment.report(link, CommitmentReport("2.25.9.1", (ONE,)))
    link.close()
    archive.stop()
    assert (outcome.status, outcome.kind) == (0x0110, "retry")


def test_an_answer_is_not_taken_away_by_the_associations_own_thread(listening: Listening, owner: Owner) -> None:
    """Its moment is too short to be met, so that thread is asked here."""
    link = open_link(target(listening().port), commitment.PAIRS)
    dimse = link.assoc.dimse
    answer, request = N_ACTION(), N_EVENT_REPORT()
    answer.MessageIDBeingRespondedTo, answer.Status = 1, 0x0000
    served: list[Any] = []
    link.assoc._serve_request = lambda message, context: served.append(message)
    request.MessageID, request.AffectedSOPClassUID, request.EventTypeID = 2, commitment.MODEL, 1
    request.AffectedSOPInstanceUID = commitment.INSTANCE
    assert answer.is_valid_response and request.is_valid_request
    link.assoc._reactor_checkpoint.clear()
    until(lambda: link.assoc._is_paused)
    dimse.msg_queue.put((1, request))
    dimse.msg_queue.put((1, answer))
    assert dimse.get_msg(block=True) == (1, answer)
    assert served == [request]
    dimse.msg_queue.put((1, answer))
    assert dimse.get_msg() == (None, None)
    assert dimse.get_msg(block=True) == (1, answer)
    dimse.msg_queue.put((1, request))
    assert dimse.get_msg() == (1, request)
    link.assoc._reactor_checkpoint.set()
    link.close()
