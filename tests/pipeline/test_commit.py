"""A modality asks whether its images are kept: files are read, and it is told on an association of ours or of its."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from house import SETTINGS, House
from network.peers import until
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from config.settings import Retention
from node.domain import CommitmentState
from node.network import commitment
from node.network.incoming import CommitmentReport, CommitmentRequest, Reference, Requestor, Status
from node.network.link import Link, Target, open_link
from node.network.listener import Listener
from node.network.orthanc import free_port
from node.network.statuses import classify
from node.pipeline.commit import Committer
from node.pipeline.listening import is_peer
from node.pipeline.settle import settle_due
from node.storage import commitments, instances, routing, upkeep
from node.storage.commitments import Commitment

Make = Callable[..., Path]
HOUR = 3600.0
MISSING = Reference("1.2.840.10008.5.1.4.1.1.1", "1.2.3.4")


class Modality:
    """Waits for reports, by pynetdicom's own server; `status` is its answer."""

    def __init__(self, port: int = 0) -> None:
        self.status = 0x0000
        self.reports: list[tuple[int, Any]] = []
        ae = AE("MODALITY")
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, self._on_report)]
        self._server: Any = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        self.port = int(self._server.server_address[1])

    def _on_report(self, event: Any) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        return self.status, None

    def stop(self) -> None:
        self._server.shutdown()


@dataclass
class Bench:
    house: House
    listener: Listener
    links: list[Link] = field(default_factory=list)
    reports: list[CommitmentReport] = field(default_factory=list)
    """What came on the association on which was asked."""

    def ask(self, *references: Reference, transaction: str = "2.25.1") -> int | None:
        return commitment.ask(self.link(), CommitmentRequest(transaction, references)).status

    def link(self) -> Link:
        if not self.links:
            to = Target("MODALITY", "OVERREAD", "127.0.0.1", self.listener.port or 0, 5)
            handler = commitment.report_handler(lambda _, report: self._reported(report))
            self.links.append(open_link(to, commitment.PAIRS, handlers=[handler]))
        return self.links[0]

    def _reported(self, report: CommitmentReport) -> Status:
        self.reports.append(report)
        return Status(0x0000)

    def commit(self, seconds: float = 0, *, name: str = "modality") -> int:
        """What the dispatch role does, then the receive role."""
        self.house.now += seconds
        house = self.house
        peer = house.settings.peer_named(name)
        one = Committer(
            house.store,
            peer,
            settings=house.settings,
            bell=house.bell,
            clock=lambda: house.now,
            chance=lambda _a, b: b,
        )
        done = one.commit_due()
        house.receiver.report(self.listener.report)
        return done

    @property
    def row(self) -> Commitment:
        (row,) = commitments.of_peer(self.house.store, "modality")
        return row

    def take(self, path: Path) -> Reference:
        """Receive an image; how it is asked about."""
        assert self.house.receive(path)[0].code == 0x0000
        ds = dcmread(path, stop_before_pixels=True)
        return Reference(str(ds.SOPClassUID), str(ds.SOPInstanceUID))

    def file(self, reference: Reference) -> Path:
        (instance,) = commitments.instances_of(self.house.store, reference.sop_instance_uid)
        return instance.path


@pytest.fixture
def modality() -> Iterator[Modality]:
    made = Modality()
    yield made
    made.stop()


@pytest.fixture
def bench(build_house: Callable[..., House], tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*, port: int | None = None, commit: bool = True, may: tuple[str, ...] = ("send",)) -> Bench:
        peer: dict[str, Any] = {"name": "modality", "ae_title": "MODALITY", "may": list(may)}
        peer |= {"host": "127.0.0.1", "port": port} if port else {"networks": ["127.0.0.1"]}
        house = build_house(peer=[*SETTINGS["peer"], peer], listener={"reserve_mb": 0, "commit": commit})
        folder = tmp_path / "tmp"
        folder.mkdir()
        listener = Listener(
            ae_title="OVERREAD",
            bind="127.0.0.1",
            port=0,
            folder=folder,
            callbacks=house.receiver.callbacks(),
            max_associations=10,
            network_timeout=5,
            instance_limit=2**30,
        )
        listener.start()
        made.append(Bench(house, listener))
        return made[-1]

    yield make
    for one in made:
        for link in one.links:
            link.close()
        one.listener.stop(0.0)


def test_what_is_on_disk_is_committed_on_an_association_of_ours(
    bench: Callable[..., Bench], image: Make, modality: Modality
) -> None:
    one = bench(port=modality.port)
    asked = one.take(image())
    assert one.ask(asked, transaction="2.25.42") == 0x0000
    assert one.row.state is CommitmentState.ASKED
    assert one.commit() == 1
    assert one.row.state is CommitmentState.CHECKED
    assert one.commit() == 1
    assert one.row.state is CommitmentState.REPORTED
    ((kind, said),) = modality.reports
    assert (kind, said.TransactionUID) == (1, "2.25.42")
    assert [i.ReferencedSOPInstanceUID for i in said.ReferencedSOPSequence] == [asked.sop_instance_uid]
    assert "FailedSOPSequence" not in said
    assert one.reports == []
    assert one.commit() == 0


def test_what_is_not_as_it_came_is_not_committed(bench: Callable[..., Bench], image: Make, modality: Modality) -> None:
    one = bench(port=modality.port)
    good, altered, vanished, other = (one.take(image()) for _ in range(4))
    with one.file(altered).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    one.file(vanished).unlink()
    wrong = Reference("1.2.840.10008.5.1.4.1.1.2", other.sop_instance_uid)
    one.ask(good, altered, vanished, wrong, MISSING)
    one.commit()
    one.commit()
    ((kind, said),) = modality.reports
    assert kind == 2
    assert [i.ReferencedSOPInstanceUID for i in said.ReferencedSOPSequence] == [good.sop_instance_uid]
    reasons = {i.ReferencedSOPInstanceUID: i.FailureReason for i in said.FailedSOPSequence}
    assert reasons == {
        altered.sop_instance_uid: 0x0110,
        vanished.sop_instance_uid: 0x0112,
        wrong.sop_instance_uid: 0x0119,
        MISSING.sop_instance_uid: 0x0112,
    }


def test_what_was_purged_is_not_there(bench: Callable[..., Bench], image: Make, modality: Modality) -> None:
    one = bench(port=modality.port)
    asked = one.take(image())
    settle_due(one.house.store, one.house.settings, one.house.now + 100)
    routing.route(one.house.store, one.house.only_study(), [], now=one.house.now)
    assert upkeep.purge(one.house.store, Retention(), one.house.now + 48 * HOUR)
    one.ask(asked)
    one.commit()
    one.commit()
    ((kind, said),) = modality.reports
    assert kind == 2 and "ReferencedSOPSequence" not in said
    assert said.FailedSOPSequence[0].FailureReason == 0x0112


def test_a_modality_without_an_address_is_told_on_its_own_association(bench: Callable[..., Bench], image: Make) -> None:
    one = bench()
    asked = one.take(image())
    assert one.ask(asked, MISSING) == 0x0000
    assert one.commit() == 1
    until(lambda: one.reports)
    assert one.reports == [CommitmentReport("2.25.1", (asked,), ((MISSING, 0x0112),))]
    until(lambda: one.row.state is CommitmentState.REPORTED)
    assert one.commit() == 0


def test_a_modality_that_has_gone_and_has_no_address_is_shown(bench: Callable[..., Bench], image: Make) -> None:
    one = bench()
    one.ask(one.take(image()))
    one.link().close()
    until(lambda: one.row.state is CommitmentState.DEAD)
    assert one.commit() == 0
    ((peer, reason),) = commitments.untold(one.house.store)
    assert peer == "modality" and "no host and port" in reason


def test_what_nobody_could_be_told_is_given_up(bench: Callable[..., Bench], image: Make) -> None:
    one = bench()
    one.ask(one.take(image()))
    one.house.receiver._waiting.clear()  # as after a restart
    one.commit()
    assert one.commit(HOUR) == 0
    assert one.commit(72 * HOUR) == 1
    assert one.row.state is CommitmentState.DEAD


def test_a_modality_that_is_down_is_told_later(bench: Callable[..., Bench], image: Make) -> None:
    port = free_port()
    one = bench(port=port)
    one.ask(one.take(image()))
    one.commit()
    for attempts in (1, 2, 3):
        one.commit(1000)
        assert (one.row.state, one.row.attempts) == (CommitmentState.CHECKED, attempts)
    assert "nothing listens" in one.row.reason
    late = Modality(port)
    one.commit(1000)
    late.stop()
    assert one.row.state is CommitmentState.REPORTED
    assert commitments.untold(one.house.store) == []


@pytest.mark.parametrize(("status", "state"), [(0x0110, "CHECKED"), (0x0115, "DEAD")])
def test_a_report_that_is_not_taken(
    bench: Callable[..., Bench], image: Make, modality: Modality, status: int, state: str
) -> None:
    one = bench(port=modality.port)
    modality.status = status
    one.ask(one.take(image()))
    one.commit()
    one.commit()
    assert one.row.state == state
    assert f"0x{status:04X}" in one.row.reason


def test_a_request_that_comes_twice_is_one(bench: Callable[..., Bench], image: Make, modality: Modality) -> None:
    one = bench(port=modality.port)
    asked = one.take(image())
    assert one.ask(asked) == one.ask(asked) == 0x0000
    assert one.ask(MISSING) == 0x0131
    one.commit()
    one.commit()
    assert len(modality.reports) == 1
    assert one.ask(asked) == 0x0000
    assert one.commit() == 0


def test_a_node_that_is_not_told_to_commits_to_nothing(bench: Callable[..., Bench], image: Make) -> None:
    one = bench(commit=False)
    outcome = commitment.ask(one.link(), CommitmentRequest("2.25.1", (one.take(image()),)))
    assert outcome.status == 0x0124
    assert "this node commits to nothing (listener.commit = false)" in outcome.error
    assert commitments.of_peer(one.house.store, "modality") == []


def test_a_peer_that_may_not_send_has_nothing_here_to_ask_about(bench: Callable[..., Bench]) -> None:
    one = bench(port=free_port(), may=("receive",))
    assert one.ask(MISSING) == 0x0124


def test_requests_without_end_are_refused_for_now(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    one = bench()
    monkeypatch.setattr("node.pipeline.commit.MOST_OPEN", 2)
    answers = [one.ask(MISSING, transaction=f"2.25.{n + 1}") for n in range(3)]
    assert answers == [0x0000, 0x0000, 0x0213]


def test_both_versions_of_an_instance_must_be_whole(
    bench: Callable[..., Bench], image: Make, modality: Modality
) -> None:
    one = bench(port=modality.port)
    first = image()
    ds = dcmread(first)
    same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    asked = one.take(first)
    one.take(image(**same, PatientID="P2"))
    one.ask(asked)
    one.commit()
    assert [item.failure for item in one.row.items] == [0]
    _, second = commitments.instances_of(one.house.store, asked.sop_instance_uid)
    second.path.write_bytes(b"something else")
    one.ask(asked, transaction="2.25.2")
    one.commit()
    one.commit()
    assert [i.items[0].failure for i in commitments.of_peer(one.house.store, "modality")] == [0, 0x0110]


def test_a_lost_file_is_noted_as_lost(bench: Callable[..., Bench], image: Make, modality: Modality) -> None:
    one = bench(port=modality.port)
    asked = one.take(image())
    one.file(asked).unlink()
    one.ask(asked)
    one.commit()
    (instance,) = instances.of_study(one.house.store, one.house.only_study().id)
    assert instance.gone == "lost"


def test_old_requests_are_forgotten_and_open_ones_are_not(bench: Callable[..., Bench], modality: Modality) -> None:
    one = bench(port=modality.port)
    one.ask(MISSING)
    assert commitments.purge(one.house.store, before=one.house.now + 1) == 0
    one.commit()
    one.commit()
    assert commitments.purge(one.house.store, before=one.house.now + 1) == 1


def test_on_this_machine_alone_nobody_need_be_named(build_house: Callable[..., House], image: Make) -> None:
    house = build_house(peer=[], route=[], listener={"reserve_mb": 0, "commit": True})
    house.receiver.on_accept("c" * 12, Requestor("ANYBODY", "OVERREAD", "127.0.0.1", 4000))
    request = CommitmentRequest("2.25.1", (MISSING,))
    assert house.receiver.on_commitment_request("c" * 12, request).code == 0x0000
    one = Committer(house.store, None, settings=house.settings, bell=house.bell, clock=lambda: house.now)
    assert one.commit_due() == 1
    sent: list[Any] = []

    def send(association: str, report: CommitmentReport) -> Any:
        sent.append((association, report.failed))
        return classify(0x0000)

    assert house.receiver.report(send) == 1
    assert sent == [("c" * 12, ((MISSING, 0x0112),))]


@pytest.mark.parametrize(
    ("may", "proof", "admitted"),
    [
        (["receive"], "auto", True),
        (["receive"], "commitment", True),
        (["receive"], "find", False),
        (["receive"], "none", False),
        (["send", "receive"], "none", True),
    ],
)
def test_who_may_associate(build_house: Callable[..., House], may: list[str], proof: str, admitted: bool) -> None:
    """To send, or to report that it keeps results; from its own address in either case."""
    peer = {"name": "pacs", "ae_title": "PACS", "host": "10.1.2.3", "port": 104, "may": may, "proof": proof}
    house = build_house(peer=[peer], route=[])
    for address, known in (("10.1.2.3", admitted), ("10.1.2.4", False)):
        rejection = house.receiver.admit(Requestor("PACS", "OVERREAD", address, 4000))
        assert (rejection is None) is known
        assert is_peer(address, house.settings) is known


def test_of_two_peers_with_one_title_the_one_that_may_send_is_meant(
    build_house: Callable[..., House], image: Make
) -> None:
    same = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    peers = [same | {"name": "store", "may": ["receive"]}, same | {"name": "source", "may": ["send"]}]
    house = build_house(peer=peers, route=[])
    assert house.receive(image())[0].code == 0x0000
    assert house.only_study().peer == "source"


def test_requests_that_nobody_can_be_told_about_any_more_hold_no_others_up(house: House) -> None:
    """Their associations ended with the process that had them: they wait until they are too old."""
    store = house.store
    item = commitments.Item(MISSING.sop_class_uid, MISSING.sop_instance_uid)
    for n in range(17):
        named = {"association": f"gone{n}", "calling_ae_title": "CT", "peer": ""}
        assert commitments.add(store, f"2.25.{n}", [item], **named, now=house.now)
    one = Committer(store, None, settings=house.settings, bell=house.bell, clock=lambda: house.now)
    while one.commit_due():
        continue
    assert {c.state for c in commitments.of_peer(store, "")} == {CommitmentState.CHECKED}
