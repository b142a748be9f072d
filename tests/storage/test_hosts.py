"""Hosts that share a database: what one holds is its own, and is given back when it is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hosts_made import eventually, let_pass, new_database, say, store_on
from rows import NOW, ORIGIN, built, received

from node.domain import DeliveryState, JobState, Matched
from node.errors import RoleTaken
from node.storage import associations, deliveries, duties, hosts, instances, jobs, queue, routing, studies, waits
from node.storage.duties import Duties
from node.storage.spool import Spool
from node.storage.store import Store


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    url = new_database()
    made = store_on("a1", url, tmp_path / "spool"), store_on("b2", url, tmp_path / "spool")
    yield made
    for one in made:
        one.close()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Store]:
    """A node by itself, with a file."""
    made = Store(tmp_path / "overread.db", tmp_path / "spool")
    made.spool.open()
    made.open()
    yield made
    made.close()


def begin(store: Store, number: int) -> str:
    origin = replace(ORIGIN, id=f"{number:012d}")
    studies.begin_association(store, origin)
    return origin.id


def leased(store: Store, uid: str) -> queue.Work:
    """One job of a new study, in the hands of this host."""
    study = instances.remember(store, received(store, uid), ORIGIN, own_device_uid="", now=NOW).study
    study = studies.settle(store, study, "test", image_digest=uid, now=NOW) or study
    matched = Matched("chest", tuple(i.id for i in instances.of_study(store, study.id)), "1 of 1 images match")
    routing.route(store, study, [routing.Wanted(matched, "cardiomegaly@1.0.0", {"pacs": []})], now=NOW)
    (work,) = queue.claim(store, f"{jobs.lease_of('infer', store.host)}x", 8, now=NOW, lease=600)
    return work


def sending(store: Store, uid: str) -> deliveries.Delivery:
    """One delivery that this host is sending."""
    work = leased(store, uid)
    jobs.finish(store, work.job, JobState.DONE, [], [built(store, f"{uid}.77")], reason="", now=NOW)
    (delivery,) = deliveries.claim(store, "pacs", 8, now=NOW, lease=900)
    return delivery


def is_open(store: Store, association: str) -> bool:
    with store.read() as connection:
        A = associations.A
        return connection.execute(A.select().where(A.c.id == association, A.c.ended_at.is_(None))).first() is not None


def test_a_listener_that_restarts_ends_its_own_hosts_associations(two: tuple[Store, Store]) -> None:
    here, there = two
    mine, other = begin(here, 1), begin(there, 2)
    assert studies.end_all_associations(here, now=NOW) == 1
    assert not is_open(here, mine)
    assert is_open(here, other)
    assert associations.open_elsewhere(here, other)
    assert not associations.open_elsewhere(there, other)


def test_an_association_whose_beginning_was_not_answered_for_begins_once(two: tuple[Store, Store]) -> None:
    here, _ = two
    mine = begin(here, 1)
    assert begin(here, 1) == mine  # the server had committed, and was killed before it said so
    assert is_open(here, mine)


def test_a_sender_that_restarts_frees_what_its_own_host_was_sending(two: tuple[Store, Store]) -> None:
    here, there = two
    mine, other = sending(here, "1.2.3"), sending(there, "1.2.4")
    assert deliveries.free_all(here) == 1
    assert not deliveries.may_go(here, mine)
    assert deliveries.may_go(there, other)


def test_what_a_host_held_is_given_back_when_it_is_gone(two: tuple[Store, Store]) -> None:
    here, there = two
    say(here)
    say(there)
    association, work = begin(there, 3), leased(there, "1.2.5")
    delivery = sending(there, "1.2.6")
    assert duties.take(there, "alarms")
    assert hosts.take_over(here) == hosts.TakenOver()
    let_pass(here, "b2", 61)
    assert hosts.take_over(here) == hosts.TakenOver(("b2",), associations=1, jobs=1, deliveries=1)
    assert not is_open(here, association)
    assert duties.take(here, "alarms")
    assert not deliveries.sent(there, delivery, status=0, note="", now=NOW)
    assert not jobs.finish(there, work.job, JobState.DONE, [], [], reason="", now=NOW)
    (again,) = queue.claim(here, "infer@a1/x", 8, now=here.now(), lease=600)
    assert (again.job.id, again.job.crashes) == (work.job.id, 1)
    assert hosts.take_over(here) == hosts.TakenOver()
    (gone,) = [host for host in hosts.known(here) if not host.is_here]
    assert (gone.id, gone.reason) == ("b2", "had dispatch, infer, receive")
    say(there)
    assert all(host.is_here for host in hosts.known(here))


def test_hosts_gone_for_days_are_forgotten(two: tuple[Store, Store]) -> None:
    here, there = two
    say(here)
    say(there)
    let_pass(here, "b2", 3 * 86400)
    hosts.take_over(here)
    assert [host.id for host in hosts.known(here)] == ["a1"]


def test_what_unknown_hosts_hold_is_given_back(two: tuple[Store, Store]) -> None:
    here, there = two
    say(here)
    kept, stray, work = begin(here, 4), begin(there, 5), leased(there, "1.2.7")
    found = hosts.take_over_strays(here)
    assert (found.hosts, found.associations, found.jobs) == (("b2",), 1, 1)
    assert is_open(here, kept)
    assert not is_open(here, stray)
    assert jobs.of_study(here, work.study.id)[0].state is JobState.QUEUED
    assert hosts.take_over_strays(here) == hosts.TakenOver()


def test_a_host_that_ends_in_order_is_not_missed(two: tuple[Store, Store]) -> None:
    here, there = two
    say(here)
    say(there)
    delivery = sending(there, "1.2.8")
    hosts.leave(there)
    assert [host.id for host in hosts.known(here)] == ["a1"]
    assert deliveries.of_study(here, delivery.study_id)[0].state is DeliveryState.QUEUED


def test_hosts_that_go_by_other_settings_are_seen(two: tuple[Store, Store]) -> None:
    here, there = two
    say(here)
    say(there)
    assert not hosts.differ(here)
    say(there, settings="other")
    assert hosts.differ(here)
    let_pass(here, "b2", 61)
    assert not hosts.differ(here)


def test_a_duty_is_one_hosts_until_it_is_over(two: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    assert duties.take(here, "audit")
    assert not duties.take(there, "audit")
    assert duties.take(there, "alarms")
    duties.give_up(there, ["audit", "alarms"])
    assert not duties.take(there, "audit")
    assert duties.take(here, "alarms")
    clock = here.database.clock
    monkeypatch.setattr(there.database, "clock", lambda connection: clock(connection) + duties.SECONDS + 1)
    assert duties.take(there, "audit")
    # a clock that was set back by a day keeps nobody waiting for a day
    monkeypatch.setattr(here.database, "clock", lambda connection: clock(connection) - 86400)
    assert duties.take(here, "audit")
    assert duties.holders(here) == {"alarms": "a1", "audit": "a1"}


def test_of_many_who_ask_at_once_one_has_the_duty(two: tuple[Store, Store]) -> None:
    got: list[str] = []

    def ask(store: Store) -> None:
        if duties.take(store, "purge"):
            got.append(store.host)

    threads = [threading.Thread(target=ask, args=[two[n % 2]]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 1


def test_duties_are_kept_while_their_process_lives(two: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    monkeypatch.setattr(duties, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(duties, "TRY_SECONDS", 0.0)
    ours, theirs = Duties(here), Duties(there)
    assert ours.mine("audit")
    assert not theirs.mine("audit")
    with here.write() as connection:
        connection.execute(duties.D.update().values(until=here.database.clock(connection) + 1))
    eventually(lambda: _until(here, "audit") > here.now() + 10)
    ours.drop("audit")
    assert theirs.mine("audit")
    ours.close()
    theirs.close()
    assert duties.holders(here) == {}


def _until(store: Store, name: str) -> float:
    with store.read() as connection:
        return float(connection.execute(duties.D.select().where(duties.D.c.name == name)).one().until)


def test_a_duty_is_held_for_as_long_as_something_takes(two: tuple[Store, Store]) -> None:
    here, there = two
    with duties.hold(here, "pull-1", "taken"):
        with pytest.raises(RoleTaken, match="taken"), duties.hold(there, "pull-1", "taken"):
            raise AssertionError("both have it")
        with duties.hold(there, "pull-2", "taken"):
            pass
    with duties.hold(there, "pull-1", "taken"):
        pass


def test_a_node_by_itself_has_all_duties_and_knows_no_hosts(alone: Store) -> None:
    assert duties.take(alone, "audit")
    with duties.hold(alone, "audit", "taken"):
        assert Duties(alone).mine("audit")
    assert hosts.known(alone) == []
    assert not hosts.differ(alone)
    assert duties.holders(alone) == {}


def test_a_jump_of_the_clock_is_seen_once_by_all_hosts(two: tuple[Store, Store], alone: Store) -> None:
    here, there = two
    assert waits.remember_jump(here, 3600.0, now=NOW)
    assert not waits.remember_jump(there, 3601.5, now=NOW + 40)
    assert waits.remember_jump(there, -3600.0, now=NOW - 3500)
    assert waits.remember_jump(alone, 3600.0, now=NOW)
    assert waits.remember_jump(alone, 3600.0, now=NOW + 40)


def test_time_goes_on_while_the_server_is_away(two: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = two
    with here.read() as connection:
        said = here.database.clock(connection)
    assert abs(here.now() - said) < 1
    # whatever becomes of this machine's own clock
    monkeypatch.setattr("node.storage.store.time.time", lambda: 0.0)
    assert abs(here.now() - said) < 1


def test_what_is_half_written_is_each_hosts_own(tmp_path: Path) -> None:
    by_itself = Spool(tmp_path / "spool")
    one, other = (Spool(tmp_path / "spool", host=name) for name in ("a1", "b2"))
    for spool in (by_itself, one, other):
        spool.open()
    assert (by_itself.tmp, one.tmp) == (tmp_path / "spool" / "tmp", tmp_path / "spool" / "tmp" / "a1")
    (one.tmp / "incoming-1").write_bytes(b"half")
    assert other.sweep_tmp(NOW, older_than=0, pattern="incoming-*") == 0
    now = (one.tmp / "incoming-1").stat().st_mtime
    assert other.sweep_tmp_of_others(now, older_than=60, but=[]) == 0
    assert other.sweep_tmp_of_others(now + 61, older_than=60, but=["a1"]) == 0
    assert other.sweep_tmp_of_others(now + 61, older_than=60, but=[]) == 1
    assert sorted(path.name for path in by_itself.tmp.iterdir()) == ["b2"]


def test_a_slow_host_does_not_write_over_what_another_one_has_reported(tmp_path: Path) -> None:
    slow, quick = (Spool(tmp_path / "spool", host=name) for name in ("a1", "b2"))
    for spool in (slow, quick):
        spool.open()
    path = quick.results / "57" / "one"  # no name of a result, which would be judged as one
    quick.write("result", b"of the one whose lease it was", path, once=True)
    with pytest.raises(FileExistsError):
        slow.write("result", b"of the one whose lease was over", path, once=True)
    assert path.read_bytes() == b"of the one whose lease it was"
    assert (list(slow.tmp.iterdir()), list(quick.tmp.iterdir())) == ([], [])
    assert path.stat().st_nlink == 1
