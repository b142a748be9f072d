"""From SENT to COMMITTED against an independent PACS that reports as it likes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from archive_made import Archive, report_of
from house import SETTINGS, House
from network.peers import until
from pydicom import dcmread
from pydicom.dataset import Dataset
from test_deliver import courier, of_study, report

from config.settings import Deliver, Settings
from node.domain import Delivery, DeliveryState, StudyState
from node.network.incoming import CommitmentReport, Reference
from node.network.listener import Listener
from node.pipeline import deliver, prove
from node.pipeline.prove import Prover
from node.storage import deliveries, departed, events, invariants, negotiated, proofs, studies

Make = Callable[..., Path]
HOUR = 3600.0
SENT, COMMITTED, QUEUED, DEAD = (DeliveryState(s) for s in ("SENT", "COMMITTED", "QUEUED", "DEAD"))


@dataclass
class Bench:
    """A house whose results go to an archive, and what proves them."""

    house: House
    archive: Archive
    listener: Listener
    provers: list[Prover] = field(default_factory=list)

    @property
    def prover(self) -> Prover:
        if not self.provers:
            peer = self.house.settings.peer_named("pacs")
            assert peer
            house = self.house
            self.provers.append(
                Prover(house.store, peer, settings=house.settings, clock=lambda: house.now, chance=lambda _a, b: b)
            )
        return self.provers[0]

    def send(self) -> None:
        one = courier(self.house)
        while one.deliver_due():
            continue
        one.close()

    def after(self, seconds: float) -> int:
        """Let time pass, and the prover do what is due."""
        self.house.now += seconds
        return self.prover.prove_due()

    def states(self) -> list[DeliveryState]:
        return [d.state for d in of_study(self.house)]

    def now_all(self, state: DeliveryState) -> None:
        until(lambda: set(self.states()) == {state})

    @property
    def first(self) -> Delivery:
        return of_study(self.house)[0]

    def story(self) -> str:
        return "\n".join(e.text for e in events.of_study(self.house.store, self.house.only_study().id))


@pytest.fixture
def bench(build_house: Callable[..., House], image: Make, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(proof: str = "auto", *, may: tuple[str, ...] = ("send", "receive"), **options: Any) -> Bench:
        """Two results, sent."""
        archive = Archive(**options)
        pacs = SETTINGS["peer"][0] | {"port": archive.port, "proof": proof}
        house = build_house(peer=[pacs, SETTINGS["peer"][1]])
        report(house, image())
        house.settings = Settings(**SETTINGS | {"peer": [pacs | {"may": list(may)}, SETTINGS["peer"][1]]})
        house.restart()
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
        archive.node_port = listener.port or 0
        made.append(Bench(house, archive, listener))
        made[-1].send()
        assert made[-1].states() == [SENT, SENT]
        return made[-1]

    yield make
    for one in made:
        for prover in one.provers:
            prover.close()
        one.archive.stop()
        one.listener.stop(0.0)


@pytest.mark.parametrize("how", ["new", "same", "before", "twice"])
def test_a_report_commits_whichever_way_it_comes(bench: Callable[..., Bench], how: str) -> None:
    one = bench(how=how)
    assert one.after(1) == 0, "results of one sending go into one question"
    assert one.after(2) == 2
    one.now_all(COMMITTED)
    assert {(d.proof, d.proven_at, d.proof_due_at) for d in of_study(one.house)} == {
        ("storage commitment", one.house.now, None)
    }
    ((_, asked),) = one.archive.requests
    assert set(asked) == set(one.archive.objects)
    until(lambda: one.archive.reported == [0x0000] * (2 if how == "twice" else 1))
    assert one.story().count("is kept: storage commitment") == 2
    assert invariants.verify(one.house.store, one.house.spool, one.house.now) == []
    assert one.after(100) == 0


def test_the_name_of_a_question_is_in_the_rows_before_it_is_asked(bench: Callable[..., Bench]) -> None:
    one = bench(how="never")
    seen: list[str] = []

    def look() -> int:
        seen.extend(d.transaction_uid for d in of_study(one.house))
        return 0x0000

    one.archive.action = look
    one.after(3)
    ((name, _),) = one.archive.requests
    assert seen == [name.removesuffix(".1")] * 2
    assert [(d.asks, d.proof_due_at) for d in of_study(one.house)] == [(1, one.house.now + HOUR)] * 2


def test_a_peer_that_may_only_receive_reports_and_may_not_send(bench: Callable[..., Bench], image: Make) -> None:
    one = bench(may=("receive",))
    one.after(3)
    one.now_all(COMMITTED)
    kept = list(one.house.spool.objects())
    one.house.begin()
    answer = one.house.put(image())
    assert (answer.code, answer.comment) == (0x0124, 'this peer may not "send"')
    assert list(one.house.spool.objects()) == kept


def test_what_the_pacs_lost_is_sent_again_and_proven(bench: Callable[..., Bench]) -> None:
    one = bench()
    lost = one.first.sop_instance_uid
    del one.archive.objects[lost]
    one.after(3)
    until(lambda: one.states() == [QUEUED, COMMITTED])
    assert one.first.reason == "pacs reports that it does not have it"
    one.send()
    assert one.archive.received[lost] == 2
    one.after(3)
    one.now_all(COMMITTED)
    assert one.first.resends == 1
    assert f"{one.first.kind} is sent again: pacs reports that it does not have it" in one.story()


def test_after_three_resends_it_is_given_up_and_a_person_may_ask_again(bench: Callable[..., Bench]) -> None:
    one = bench()
    lost = one.first.sop_instance_uid
    for _ in range(4):
        one.archive.objects.pop(lost)
        one.after(3)
        until(lambda: one.first.state is not SENT)
        one.send()
    assert (one.first.state, one.archive.received[lost]) == (DEAD, 4)
    assert one.first.reason == "pacs reports that it does not have it, though it was sent 4 times"
    assert deliveries.retry(one.house.store, one.house.only_study(), now=one.house.now) == 1
    one.send()
    one.after(3)
    one.now_all(COMMITTED)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (0x0119, "pacs holds another SOP class under its UID"),
        (0x0122, "pacs does not commit to objects of its SOP class"),
    ],
)
def test_what_the_pacs_will_never_keep_is_dead(bench: Callable[..., Bench], reason: int, text: str) -> None:
    one = bench()
    one.archive.altered = lambda ds: _all_failed(ds, reason)
    one.after(3)
    one.now_all(DEAD)
    assert one.first.reason == text


def _all_failed(ds: Dataset, reason: int) -> Dataset:
    ds.FailedSOPSequence = ds.ReferencedSOPSequence
    del ds.ReferencedSOPSequence
    for item in ds.FailedSOPSequence:
        item.FailureReason = reason
    return ds


@pytest.mark.parametrize("reason", [0x0110, 0x0213, 0x0131, 0xC123])
def test_a_pacs_that_cannot_say_yet_is_asked_again_under_another_name(bench: Callable[..., Bench], reason: int) -> None:
    one = bench()
    one.archive.altered = lambda ds: _all_failed(ds, reason)
    one.after(3)
    until(lambda: one.first.proof != "")
    assert one.first.proof.startswith(f"cannot commit yet: it answered 0x{reason:04X}")
    assert one.after(HOUR - 10) == 0
    one.archive.altered = lambda ds: ds
    one.after(20)
    one.now_all(COMMITTED)
    first, second = (name.rpartition(".")[0] for name, _ in one.archive.requests)
    assert first != second


def test_a_pacs_that_never_can_say_stays_unproven_in_the_end(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.archive.altered = lambda ds: _all_failed(ds, 0x0110)
    one.after(3)
    until(lambda: one.first.proof != "")
    one.after(73 * HOUR)
    until(lambda: one.first.proof_due_at is None)
    assert one.states() == [SENT, SENT]
    assert [(o.peer, o.count) for o in proofs.overdue(one.house.store, since=0)] == [("pacs", 2)]


def test_silence_is_asked_again_then_sent_again_then_shown(bench: Callable[..., Bench]) -> None:
    one = bench(how="never")
    one.after(3)
    assert proofs.overdue(one.house.store, since=0) == []
    for _ in range(2):
        assert one.after(HOUR + 3) == 2
    assert one.states() == [QUEUED, QUEUED]
    assert one.first.reason == "pacs has not reported on it"
    one.send()
    one.after(3)
    for _ in range(2):
        assert one.after(HOUR + 3) == 2
    assert one.states() == [SENT, SENT]
    names = [name for name, _ in one.archive.requests]
    assert len(set(names)) == 4
    assert [name.rpartition(".")[2] for name in names] == ["1", "2", "1", "2"]
    assert one.after(1000 * HOUR) == 0
    assert [(o.reason, o.count) for o in proofs.overdue(one.house.store, since=0)] == [("has not reported on it", 2)]
    assert proofs.unproven(one.house.store) == 2
    assert one.archive.received[one.first.sop_instance_uid] == 2
    one.archive.how = "new"
    assert proofs.ask_anew(one.house.store, ["pacs"], now=one.house.now) == 2
    one.after(3)
    one.now_all(COMMITTED)


def test_silence_is_read_back_where_that_is_offered(bench: Callable[..., Bench]) -> None:
    one = bench(how="never", finds=True)
    one.after(3)
    one.after(HOUR + 3)
    assert one.states() == [SENT, SENT]
    one.after(HOUR + 3)
    assert {(d.state, d.proof) for d in of_study(one.house)} == {(COMMITTED, "read back by C-FIND")}


def test_a_late_answer_to_the_first_question_counts(bench: Callable[..., Bench]) -> None:
    one = bench(how="never")
    one.after(3)
    one.after(HOUR + 3)
    name = one.archive.requests[0][0]
    one.archive.report(report_of(name, *one.archive.objects))
    assert one.archive.reported == [0x0000]
    one.now_all(COMMITTED)


def test_an_answer_about_an_earlier_sending_changes_nothing(bench: Callable[..., Bench]) -> None:
    one = bench(how="never")
    one.after(3)
    ((name, asked),) = one.archive.requests
    lost = report_of(name, failed=dict.fromkeys(asked, 0x0112))
    one.archive.report(lost)
    assert one.states() == [QUEUED, QUEUED]
    one.archive.report(lost)
    one.send()
    one.archive.report(lost)
    assert one.states() == [SENT, SENT]
    assert one.archive.reported == [0x0000, 0x0115, 0x0115], "the transaction is over"
    assert {d.resends for d in of_study(one.house)} == {1}


def test_a_report_about_what_was_never_asked_changes_nothing(
    bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = bench(how="never")
    one.archive.report(report_of("2.25.4711.1", "1.2.3"))
    one.after(3)
    ((name, asked),) = one.archive.requests
    one.archive.report(report_of(name, "1.2.3.4.5", failed={"1.2.3.4.6": 0x0112}))
    one.archive.report(report_of("", *asked))
    assert one.archive.reported == [0x0115, 0x0000, 0x0115]
    assert one.states() == [SENT, SENT]
    assert "proof.unknown-transaction kept=1 failed=0" in caplog.text
    assert "never-asked=2" in caplog.text
    assert "1.2.3.4" not in caplog.text


def test_a_report_that_forgets_some_leaves_them_open(bench: Callable[..., Bench]) -> None:
    one = bench()

    def forget(ds: Dataset) -> Dataset:
        ds.ReferencedSOPSequence = ds.ReferencedSOPSequence[:1]
        return ds

    one.archive.altered = forget
    one.after(3)
    until(lambda: sorted(one.states()) == [COMMITTED, SENT])
    one.archive.altered = lambda ds: ds
    assert one.after(HOUR + 3) == 1
    one.now_all(COMMITTED)
    first, second = one.archive.requests
    assert (len(first[1]), len(second[1])) == (2, 1)


def test_where_commitment_is_not_offered_it_is_read_back(bench: Callable[..., Bench]) -> None:
    one = bench(commits=False, finds=True)
    assert one.after(3) == 2
    assert {(d.state, d.proof) for d in of_study(one.house)} == {(COMMITTED, "read back by C-FIND")}
    assert set(one.archive.queries) == set(one.archive.objects)


def test_where_commitment_is_refused_for_good_it_is_read_back(bench: Callable[..., Bench]) -> None:
    one = bench(finds=True)
    one.archive.action = lambda: 0x0124
    one.after(3)
    assert set(one.states()) == {COMMITTED}


def test_a_pacs_gets_minutes_to_index_before_it_is_sent_again(bench: Callable[..., Bench]) -> None:
    one = bench(proof="find", finds=True)
    lost = one.first.sop_instance_uid
    kept = one.archive.objects.pop(lost)
    one.after(3)
    assert one.states() == [SENT, COMMITTED]
    for _ in range(4):
        assert one.after(5) == 0 or one.first.state is SENT
        one.after(60)
    assert one.first.state is SENT
    one.archive.objects[lost] = kept
    one.after(300)
    assert one.first.state is COMMITTED
    assert one.archive.received[lost] == 1


def test_what_is_not_found_in_the_end_is_sent_again(bench: Callable[..., Bench]) -> None:
    one = bench(proof="find", finds=True)
    lost = one.first.sop_instance_uid
    one.archive.objects.pop(lost)
    one.after(3)
    one.after(11 * 60)
    assert one.first.state is QUEUED
    one.send()
    one.after(3)
    assert (one.first.state, one.first.proof) == (COMMITTED, "read back by C-FIND")
    assert one.archive.requests == []


def test_a_query_that_fails_is_asked_again_later(bench: Callable[..., Bench]) -> None:
    one = bench(proof="find", finds=True)
    one.archive.query = lambda: 0xA700
    one.after(3)
    assert one.states() == [SENT, SENT]
    assert "out of resources" in one.first.proof
    one.archive.query = lambda: 0x0000
    one.after(1000)
    assert set(one.states()) == {COMMITTED}


def test_a_peer_that_proves_nothing_is_asked_once_a_day(bench: Callable[..., Bench]) -> None:
    one = bench(commits=False)
    assert one.after(3) == 2
    associations = one.archive.associations
    assert {(d.state, d.proof, d.proof_due_at) for d in of_study(one.house)} == {
        (SENT, "offers neither storage commitment nor a query", None)
    }
    assert proofs.unproven(one.house.store) == 2
    assert proofs.overdue(one.house.store, since=0) == []
    for _ in range(20):
        one.after(HOUR)
    assert one.archive.associations == associations
    assert one.after(5 * HOUR) == 2
    assert one.archive.associations == associations + 1
    assert one.story().count("is not proven") == 2


def test_a_peer_that_left_the_settings_is_not_asked_nor_alarmed_about(bench: Callable[..., Bench]) -> None:
    one = bench()
    store, settings = one.house.store, one.house.settings
    assert departed.left_with(store, "pacs") == (0, 2)
    left = settings.model_copy(update={"peer": [p for p in settings.peer if p.name != "pacs"]})
    assert deliver.orphans(store, left, one.house.now) == 0
    assert departed.left_with(store, "pacs") == (0, 0)
    words = "no [[peer]] named pacs is in the settings"
    assert {(d.state, d.proof, d.proof_due_at) for d in of_study(one.house)} == {(SENT, words, None)}
    assert proofs.overdue(store, since=0) == []
    # Nor when it comes back
    assert proofs.ask_refused(store, "pacs", since=0, now=one.house.now) == 0
    assert proofs.ask_anew(store, ["pacs"], now=one.house.now) == 0


def test_what_is_sent_meanwhile_asks_nobody_either(bench: Callable[..., Bench]) -> None:
    one = bench(commits=False)
    one.after(3)
    associations = one.archive.associations
    proofs.ask_anew(one.house.store, ["pacs"], now=one.house.now)
    one.after(3)
    assert one.archive.associations == associations
    assert proofs.unproven(one.house.store) == 2
    assert any(not accepted for accepted, _ in negotiated.known(one.house.store, "pacs").values())


def test_a_pacs_that_learns_to_commit_is_noticed_the_next_day(bench: Callable[..., Bench]) -> None:
    one = bench(commits=False)
    one.after(3)
    port = one.archive.port
    kept = one.archive.objects
    one.archive.stop()
    one.archive = Archive(node_port=one.listener.port or 0, port=port)
    one.archive.objects = kept
    assert one.after(25 * HOUR) == 2
    one.now_all(COMMITTED)


def test_a_pacs_that_is_down_is_asked_later(bench: Callable[..., Bench]) -> None:
    one = bench()
    port, kept = one.archive.port, one.archive.objects
    one.archive.stop()
    one.after(3)
    assert "nothing listens" in one.first.proof
    assert one.first.proof_due_at == one.house.now + 900
    one.archive = Archive(node_port=one.listener.port or 0, port=port)
    one.archive.objects = kept
    one.after(903)
    one.now_all(COMMITTED)


def test_a_lost_question_is_asked_again(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.archive.action = lambda: 0x0213
    one.after(3)
    assert "resource limitation" in one.first.proof
    one.archive.action = lambda: 0x0000
    one.after(903)
    one.now_all(COMMITTED)


def test_a_person_may_leave_proof_out(build_house: Callable[..., House], image: Make) -> None:
    archive = Archive()
    pacs = SETTINGS["peer"][0] | {"port": archive.port, "proof": "none"}
    house = build_house(peer=[pacs, SETTINGS["peer"][1]])
    report(house, image())
    one = courier(house)
    one.deliver_due()
    one.close()
    archive.stop()
    assert [(d.state, d.proof_due_at) for d in of_study(house)] == [(SENT, None)] * 2


def test_what_a_correction_made_wrong_is_not_sent_again(bench: Callable[..., Bench], image: Make) -> None:
    one = bench(how="never")
    one.after(3)
    ((name, asked),) = one.archive.requests
    house = one.house
    (instance,) = house.spool.objects()
    ds = dcmread(instance)
    same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    house.receive(image(**same, PatientID="P2"), association="b" * 12)
    assert house.only_study().state is StudyState.HELD
    studies.accept(house.store, house.only_study(), now=house.now)
    one.archive.report(report_of(name, asked[0], failed={asked[1]: 0x0112}))
    assert sorted(one.states()) == [COMMITTED, DEAD]
    (dead,) = [d for d in of_study(house) if d.state is DEAD]
    assert dead.reason == "pacs reports that it does not have it, and it must not go"
    one.send()
    assert max(one.archive.received.values()) == 1


def test_a_report_may_name_the_same_instance_under_any_class(bench: Callable[..., Bench]) -> None:
    one = bench(how="never")
    one.after(3)
    ((name, asked),) = one.archive.requests
    said = CommitmentReport(name, tuple(Reference("1.2.3", uid) for uid in asked))
    assert prove.reported(one.house.store, Deliver(), said, now=one.house.now).code == 0x0000
    assert set(one.states()) == {COMMITTED}


def test_the_association_is_held_while_a_report_may_come_on_it(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench(how="never")
    one.after(3)
    monkeypatch.setattr(one.prover, "_used_at", one.prover._used_at - 20)
    one.prover.rest()
    assert one.prover._link is not None
    monkeypatch.setattr(one.prover, "_used_at", one.prover._used_at - 40)
    one.prover.rest()
    assert one.prover._link is None
