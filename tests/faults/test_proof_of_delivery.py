"""The figure: 200 studies sent twice, in any order, to a node whose PACS fails as PACSs do; every report is there once.

`OVERREAD_TEST_STUDIES` changes their number.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from archive_made import Archive
from house import make_image
from network.peers import listens
from pydicom import dcmread
from running import RunningNode

from node.admin.reconcile import Account, reconcile, totals
from node.domain import CommitmentState, DeliveryState
from node.network import commitment
from node.network.incoming import CommitmentRequest, Reference
from node.network.link import Target, open_link
from node.network.orthanc import free_port
from node.network.sender import Sender
from node.storage import commitments, deliveries, invariants, studies

pytestmark = [pytest.mark.slow, pytest.mark.fault]

STUDIES = int(os.environ.get("OVERREAD_TEST_STUDIES", "200"))
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SECONDS = 240


class Bad:
    """An archive that is busy, warns, does not understand, hangs up, dawdles, forgets to report, reports twice or
    loses what it took; and is down now and then. `seed` makes it the same each time."""

    def __init__(self, node_port: int, *, seed: int) -> None:
        self._chance = random.Random(seed)
        self._node_port = node_port
        self._over = Event()
        self.port = free_port()
        self.stored: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.archive = self._up({})
        self._troubles = Thread(target=self._trouble, daemon=True)
        self._troubles.start()

    def _up(self, objects: dict[str, str]) -> Archive:
        made = Archive(node_port=self._node_port, port=self.port, finds=True)
        made.objects = objects
        made.store = self._store
        made.action = self._action
        return made

    def _store(self, uid: str) -> int | None:
        dice = self._chance.random()
        if dice < 0.05:
            return self._said("busy", 0xA700)
        if dice < 0.10:
            return self._said("coerced", 0xB000)
        if dice < 0.12:
            return self._said("not understood", 0xC000)
        if dice < 0.14:
            return self._said("hangs up", None)
        if dice < 0.18:
            time.sleep(0.3)
        self.stored[uid] += 1
        return self._said("stored", 0x0000)

    def _action(self) -> int:
        dice = self._chance.random()
        self.archive.how = self._chance.choice(["new", "same", "twice", "before", "never"])
        if dice < 0.3:
            self._said("loses one", None)
            _, asked = self.archive.requests[-1]
            self.archive.objects.pop(self._chance.choice(asked), None)
        return 0x0213 if dice > 0.9 else 0x0000

    def _said(self, what: str, status: int | None) -> int | None:
        self.answers[what] += 1
        return status

    def _trouble(self) -> None:
        while not self._over.wait(self._chance.uniform(6, 9)):
            self.archive.stop()
            self.answers["down"] += 1
            self._over.wait(2)
            self.archive = self._up(self.archive.objects)

    def behaves(self) -> Archive:
        """From now on it is a good one."""
        self._over.set()
        self._troubles.join(30)
        self.archive.store, self.archive.action = lambda uid: 0x0000, lambda: 0x0000
        self.archive.how = "new"
        return self.archive


@pytest.fixture
def bad() -> Iterator[tuple[Bad, int]]:
    port = free_port()
    made = Bad(port, seed=11)
    yield made, port
    made.behaves().stop()


def test_every_study_that_was_sent_twice_has_one_committed_report(bad: tuple[Bad, int], tmp_path: Path) -> None:
    pacs, port = bad
    node = RunningNode(
        tmp_path / "node", ("PACS", pacs.port), port=port, released=0.1, stub=True, proof="auto", proof_seconds=6
    )
    node.start()
    try:
        began = time.monotonic()
        films = [make_image(tmp_path / f"{n}.dcm", AccessionNumber=f"A{n}") for n in range(STUDIES)]
        order = films * 2
        random.Random(5).shuffle(order)
        sender = Sender(
            calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=port, timeout=30
        )
        for at in range(0, len(order), 20):
            assert {outcome.kind for _, outcome in sender.send(order[at : at + 20])} == {"stored"}
            sender.close()
        all_there = lambda: studies.counts(node.parts.store).get("study.ROUTED") == STUDIES  # noqa: E731
        node.wait_for(all_there, seconds=SECONDS)
        node.wait_for(lambda: studies.counts(node.parts.store).get("job.DONE") == STUDIES, seconds=SECONDS)
        archive = pacs.behaves()
        node.wait_for(lambda: _committed(node) == 2 * STUDIES, seconds=SECONDS)
        print(f"{time.monotonic() - began:.0f} s; the PACS: {dict(pacs.answers)}")
        _see(node, archive)
    finally:
        node.stop()


def _committed(node: RunningNode) -> int:
    return studies.counts(node.parts.store).get("delivery.COMMITTED", 0)


def _see(node: RunningNode, archive: Archive) -> None:
    """One report and one picture for each study, in the PACS and in the rows, and nothing that is not explained."""
    reports = [uid for uid, sop_class in archive.objects.items() if sop_class == COMPREHENSIVE_3D_SR]
    assert (len(reports), len(archive.objects)) == (STUDIES, 2 * STUDIES)
    sent = [d for s in studies.latest(node.parts.store, 10_000) for d in deliveries.of_study(node.parts.store, s.id)]
    assert {d.sop_instance_uid for d in sent} == set(archive.objects)
    assert Counter((d.kind, d.state) for d in sent) == {
        ("sr", DeliveryState.COMMITTED): STUDIES,
        ("sc", DeliveryState.COMMITTED): STUDIES,
    }
    now = time.time()
    assert totals(reconcile(node.parts.store, since=0, until=now, now=now)) == {Account.COMMITTED: STUDIES}
    assert invariants.verify(node.parts.store, node.parts.spool, now) == []


@pytest.mark.parametrize("place", ["prove.asking", "prove.asked"])
def test_a_node_that_dies_while_it_asks_asks_again(tmp_path: Path, place: str) -> None:
    port = free_port()
    archive = Archive(node_port=port, how="new")
    node = RunningNode(tmp_path / "node", ("PACS", archive.port), port=port, stub=True, proof="auto", proof_seconds=4)
    node.start()
    try:
        node.arm(place)
        film = make_image(tmp_path / "film.dcm")
        _send(port, film)
        node.wait_for(node.went_off)
        uid = str(dcmread(film).StudyInstanceUID)
        study = node.finish(uid)
        sent = deliveries.of_study(node.parts.store, study.id)
        assert {d.state for d in sent} == {DeliveryState.COMMITTED}
        assert set(archive.received.values()) == {1}
        assert node.problems() == []
    finally:
        node.stop()
        archive.stop()


@pytest.mark.parametrize("place", ["commit.asked", "commit.checked"])
def test_a_node_that_dies_while_it_is_asked_still_answers(tmp_path: Path, place: str) -> None:
    port = free_port()
    archive = Archive(node_port=port)
    node = RunningNode(tmp_path / "node", ("PACS", archive.port), port=port, stub=True, commit=True)
    node.start()
    try:
        film = make_image(tmp_path / "film.dcm")
        _send(port, film)
        node.arm(place)
        ds = dcmread(film)
        request = CommitmentRequest("2.25.99", (Reference(str(ds.SOPClassUID), str(ds.SOPInstanceUID)),))
        while True:
            link = open_link(Target("PACS", "OVERREAD", "127.0.0.1", port, 5), commitment.PAIRS)
            outcome = commitment.ask(link, request)
            link.close()
            if outcome.kind == "stored":
                break
            # who has just died may not be missed yet
            node.wait_for(lambda: node.is_ready() and listens(port))
        node.wait_for(node.went_off)
        # the archive takes no reports, and says so
        rows = node.wait_for(lambda: [c for c in commitments.of_peer(node.parts.store, "pacs") if c.attempts])
        assert [(c.state, c.items[0].failure) for c in rows] == [(CommitmentState.CHECKED, 0)]
    finally:
        node.stop()
        archive.stop()


def _send(port: int, film: Path) -> None:
    sender = Sender(calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=port, timeout=30)
    assert [outcome.kind for _, outcome in sender.send([film])] == ["stored"]
    sender.close()
