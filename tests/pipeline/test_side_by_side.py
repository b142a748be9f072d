"""Two hosts on one PostgreSQL database and one spool folder do the same work side by side: each thing is done once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models_made
import pytest
from hosts_made import eventually, let_pass, new_database, say
from house import SETTINGS, House
from pydicom.uid import generate_uid
from sqlalchemy import select
from test_report import build as build_results
from test_report import work_of

from config.settings import Settings
from node.dispatch import Dispatcher, Worker, _Lane
from node.domain import DeliveryState, JobState, Work
from node.errors import PullError, RoleTaken, StoreError
from node.network.standin import StandIn
from node.pipeline import infer, presence
from node.pipeline.deliver import Courier
from node.pipeline.owed import Owed
from node.pipeline.place import wait_for
from node.pipeline.presence import Presence, digest, see_who_else
from node.pipeline.pull import only_here
from node.pipeline.recover import recover
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.storage import associations, deliveries, duties, hosts, instances, invariants, jobs, migrate, queue, studies
from node.storage.bell import LocalBell
from node.storage.duties import Duties
from node.storage.pulls import Pull, PullState
from node.storage.spool import Spool
from node.storage.store import Store

Make = Callable[..., Path]
A = associations.A


@pytest.fixture
def pair(tmp_path: Path, pacs: StandIn) -> Iterator[tuple[House, House]]:
    url = new_database()
    peers = [{**SETTINGS["peer"][0], "port": pacs.port}, SETTINGS["peer"][1]]
    made = [house_on(name, url, tmp_path, peer=peers) for name in ("a1", "b2")]
    yield made[0], made[1]
    for house in made:
        house.store.close()
        house.bell.close()


def house_on(name: str, url: str, folder: Path, **changed: Any) -> House:
    spool = Spool(folder / "shared", host=name)
    spool.open()
    store = Store(url, spool.root, host=name)
    store.open()
    return House(Settings(**(SETTINGS | changed)), store, spool, LocalBell(folder / name / "run"), folder / name)


def rows(house: House) -> list[Any]:
    with house.store.read() as connection:
        return list(connection.execute(select(instances.I)))


def test_one_study_that_two_receivers_get_by_halves(pair: tuple[House, House], image: Make) -> None:
    uid = generate_uid()
    files = [image(StudyInstanceUID=uid) for _ in range(8)]
    for house, name in zip(pair, "ab", strict=True):
        house.begin(name * 12)

    def half(n: int) -> None:
        for file in files[n::2]:
            assert pair[n].put(file, association="ab"[n] * 12).code == 0

    threads = [threading.Thread(target=half, args=[n]) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pair[0].only_study().study_instance_uid == uid
    assert len(rows(pair[1])) == 8
    assert invariants.verify(pair[0].store, pair[0].spool, pair[0].now + 120) == []


def test_what_another_host_is_just_receiving_is_left_to_it(
    pair: tuple[House, House], image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = pair
    remember = instances.remember
    adopted: list[int] = []

    def slowly(store: Store, *arguments: Any, **more: Any) -> Any:
        if store is here.store:  # its file has its name by now, and no row
            adopted.append(recover(there.store, there.spool, own_device_uid="", now=there.now))
        return remember(store, *arguments, **more)

    monkeypatch.setattr(instances, "remember", slowly)
    here.begin()
    assert here.put(image()).code == 0
    assert adopted == [0]
    (row,) = rows(here)
    assert row.receipts == 1
    assert associations.open_elsewhere(there.store, "a" * 12)
    # a host that is gone does not come back for it
    monkeypatch.undo()
    say(here.store)
    say(there.store)
    let_pass(there.store, "a1", 61)
    hosts.take_over(there.store)
    with there.store.read() as connection:
        assert connection.execute(select(A.c.how)).scalar_one() == "lost"


def test_two_receivers_that_remember_a_lost_database_make_each_row_once(
    pair: tuple[House, House], image: Make, tmp_path: Path
) -> None:
    pair[0].receive(*(image() for _ in range(6)))
    url = new_database()
    anew = [house_on(name, url, tmp_path) for name in ("a1", "b2")]
    ended = []

    def work(house: House) -> None:
        recover(house.store, house.spool, own_device_uid="", now=house.now)
        ended.append(house)

    threads = [threading.Thread(target=work, args=[house]) for house in anew]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 2
    assert len(rows(anew[0])) == 6
    assert invariants.verify(anew[0].store, anew[0].spool, anew[0].now + 120) == []
    for house in anew:
        house.store.close()
        house.bell.close()


def test_two_couriers_for_one_peer_send_each_result_once(pair: tuple[House, House], image: Make, pacs: StandIn) -> None:
    here, there = pair
    here.receive(*(image() for _ in range(6)))
    here.now += 5
    for study in settle_due(here.store, here.settings, here.now).studies:
        route_study(here.store, study, [Planned(r, "cardiomegaly@1.0.0") for r in here.settings.route], here.now)
    for work in queue.claim(here.store, "w", 8, now=here.now, lease=60):
        outcome = build_results(here, work, [models_made.reading(0.83)])
        jobs.finish(here.store, work.job, JobState.DONE, outcome.findings, outcome.results, reason="", now=here.now)
    threads = [threading.Thread(target=deliver_all, args=[house]) for house in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = [d for study in studies.latest(there.store, 10) for d in deliveries.of_study(there.store, study.id)]
    assert {(d.state, d.attempts) for d in sent} == {(DeliveryState.SENT, 1)}
    assert len(pacs.received()) == len(sent) >= 12


def deliver_all(house: House) -> None:
    peer = house.settings.peer_named("pacs")
    assert peer
    courier = Courier(house.store, peer, spool=house.spool, settings=house.settings, clock=lambda: house.now)
    while courier.deliver_due():
        continue
    courier.close()


def test_what_only_one_host_does_goes_over_when_it_ends(
    pair: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duties, "TRY_SECONDS", 0.0)
    did: list[str] = []
    stops = [threading.Event(), threading.Event()]
    held = [Duties(house.store) for house in pair]

    def lane(n: int) -> _Lane:
        worker = Worker(
            lambda: did.append("ab"[n]) or 0, lambda: None, lambda: did.append(f"{'ab'[n]} ends"), duty=True
        )
        return _Lane("alarms", worker, stops[n], held[n])

    lanes = [lane(0), lane(1)]
    lanes[0].thread.start()
    eventually(lambda: did)
    lanes[1].thread.start()
    for _ in range(3):
        lanes[1].kick.set()
    stops[0].set()
    lanes[0].kick.set()
    lanes[0].thread.join()
    assert set(did) == {"a", "a ends"}
    held[0].close()
    lanes[1].kick.set()
    eventually(lambda: "b" in did)
    stops[1].set()
    lanes[1].kick.set()
    lanes[1].thread.join()
    held[1].close()
    assert did[-1] == "b ends"


def test_sweeps_are_one_hosts_and_orphans_nobodys_while_settings_differ(pair: tuple[House, House], image: Make) -> None:
    here, there = pair
    work = work_of(here, image())
    outcome = build_results(here, work, [models_made.reading(0.83)])
    jobs.finish(here.store, work.job, JobState.DONE, outcome.findings, outcome.results, reason="", now=here.now)
    without = there.settings.model_copy(update={"peer": there.settings.peer[1:], "route": []})
    dispatchers = [
        Dispatcher(house.store, house.spool, settings=settings, bell=house.bell, plans=[], clock=lambda: here.now)
        for house, settings in ((here, here.settings), (there, without))
    ]
    assert [d.count() > 0 for d in dispatchers] == [True, False]
    say(here.store, settings="new")
    say(there.store, settings="old")
    assert dispatchers[1].give_up_orphans() == 0
    say(there.store, settings="new")
    assert dispatchers[1].give_up_orphans() > 0
    dispatchers[0]._duties.close()


def test_nothing_is_purged_while_settings_differ(pair: tuple[House, House], image: Make) -> None:
    here, there = pair
    here.receive(image())
    settle_due(here.store, here.settings, here.now + 5)
    route_study(here.store, here.only_study(), [], here.now + 5)
    later = here.now + 2 * 86400
    options: Any = {"settings": here.settings, "bell": here.bell, "plans": [], "clock": lambda: later}
    dispatcher = Dispatcher(here.store, here.spool, **options)
    say(here.store, settings="new")
    say(there.store, settings="old")
    assert dispatcher.purge() == 0
    say(there.store, settings="new")
    assert dispatcher.purge() == 1
    dispatcher._duties.close()


class Registry:
    def find(self, ref: str) -> Any:
        return models_made.bundle()


def worker(house: House) -> infer.Worker:
    return infer.Worker(
        house.store,
        house.spool,
        settings=house.settings,
        registry=Registry(),  # type: ignore[arg-type]
        bell=house.bell,
        name=f"infer@{house.store.host}/x",
        device="cpu",
        clock=lambda: house.now,
    )


def test_a_job_that_one_host_is_not_set_up_for_waits_while_settings_differ(
    pair: tuple[House, House], image: Make
) -> None:
    here, there = pair
    study = _routed(here, image())
    there.settings = there.settings.model_copy(update={"route": []})
    say(here.store, settings="new")
    say(there.store, settings="old")
    for _ in range(5):
        there.now += 10_000
        assert worker(there).run_batch() == 1
    assert jobs.of_study(here.store, study)[0].state is JobState.QUEUED
    say(there.store, settings="new")
    there.now += 10_000
    worker(there).run_batch()
    assert jobs.of_study(here.store, study)[0].state is JobState.DEAD


def _routed(house: House, *files: Path) -> int:
    from test_route import run

    house.receive(*files)
    run(house)
    return int(house.only_study().id)


def test_a_batch_that_ended_while_the_database_was_away_is_put_back(
    pair: tuple[House, House], image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = pair
    study = _routed(here, image())
    one = worker(here)
    asked: list[Work] = []

    def away(_route: str, _bundle: str, works: list[Work]) -> None:
        asked.extend(works)
        if len(asked) == 1:
            raise StoreError("the database cannot be used")

    monkeypatch.setattr(one, "_run", away)
    with pytest.raises(StoreError):
        one.run_batch()
    assert jobs.of_study(here.store, study)[0].state is JobState.LEASED
    assert one.run_batch() == 1
    assert [(work.job.id, work.job.attempts) for work in asked] == [(asked[0].job.id, 1)] * 2


def test_what_is_owed_is_written_in_order_as_soon_as_it_can_be() -> None:
    wrote: list[int] = []
    away = True

    def write(n: int) -> None:
        if away:
            raise StoreError("away")
        wrote.append(n)

    owed = Owed()
    for n in range(3):
        owed.write(lambda n=n: write(n))  # type: ignore[misc]
    assert not owed.put_down()
    owed.add(lambda: wrote[99])
    away = False
    with pytest.raises(IndexError):
        owed.put_down()
    assert owed.put_down()
    assert (wrote, len(owed)) == ([0, 1, 2], 0)


def present(house: House, rung: list[str]) -> Presence:
    settings = house.settings.model_copy(
        update={"node": house.settings.node.model_copy(update={"data_dir": house.folder})}
    )
    return Presence(house.store, lambda: settings, ring=rung.append, without=[])


def test_a_host_takes_over_only_when_it_saw_the_database_all_the_time(
    pair: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = pair
    clock, passed = here.store.database.clock, [0.0]
    monkeypatch.setattr(here.store.database, "clock", lambda connection: clock(connection) + passed[0])
    rung: list[str] = []
    mine = present(here, rung)
    say(there.store, "infer")
    mine.step()
    for passed[0] in (20.0, 40.0, 59.0):
        assert mine.step().hosts == ()
    passed[0] = 300.0  # it was away: nobody could say anything
    assert mine.step().hosts == ()
    for passed[0] in (320.0, 340.0, 359.0):
        assert mine.step().hosts == ()
    passed[0] = 361.0
    assert mine.step().hosts == ("b2",)
    assert rung == ["infer", "dispatch"]


def test_two_hosts_by_one_id_are_told_apart_and_say_so(
    pair: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = pair
    names = iter(["one", "other", "one", "other", "one", "one"])
    one, other = present(here, []), present(here, [])
    told = []
    for turn in (one, other, one, other, one, one):
        name = next(names)
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        turn.step()
        (row,) = hosts.known(here.store)
        told.append(row.reason)
        assert (turn._twin != "") == (len(told) in (3, 4, 5))
    assert told[:3] == ["", "", ""]  # what is seen in one step is said in the next one
    assert told[3] == ""
    assert told[4].startswith("other goes by the same id")
    assert str(here.folder / "run" / "host") in told[4]


def test_a_host_is_there_from_the_first_moment_and_leaves_in_order(pair: tuple[House, House]) -> None:
    here, there = pair
    with present(here, []):
        (host,) = hosts.known(there.store)
        assert (host.id, host.is_here, dict(host.roles)) == ("a1", True, {})
    assert hosts.known(there.store) == []


def test_hosts_are_alike_wherever_their_files_lie(tmp_path: Path) -> None:
    file = tmp_path / "overread.toml"
    base = '[listener]\nport = {}\n[[peer]]\nname = "web"\nurl = "https://pacs/dicom-web"\nmay = ["receive"]\n'
    base += 'token_file = "token"\n[settle]\nquiet_seconds = {}\n'

    def said(port: int, quiet: int, folder: str) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        return digest(Settings.parse(base.format(port, quiet), tmp_path / folder / file.name))

    assert said(104, 30, "a") == said(105, 30, "b")
    assert said(104, 30, "a") != said(104, 31, "a")


def test_tables_are_changed_under_others_only_where_that_adds_to_them(
    pair: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = pair
    say(there.store, "receive")
    see_who_else(here.store, migrate.schema.REVISION, "they change")
    monkeypatch.setattr(migrate, "adds", lambda found: False)
    with pytest.raises(RoleTaken, match=r"they change only while no other host .* on name-b2 \(1.0, receive\)"):
        see_who_else(here.store, "0001", "they change")
    let_pass(here.store, "b2", 61)
    see_who_else(here.store, "0001", "they change")


def test_a_pull_is_one_hosts(pair: tuple[House, House]) -> None:
    here, there = pair
    pull = Pull(**dict.fromkeys(Pull.__dataclass_fields__) | {"id": 7, "state": PullState.OPEN})  # type: ignore[arg-type]
    mine, others = (
        h.settings.model_copy(update={"node": h.settings.node.model_copy(update={"data_dir": h.folder})}) for h in pair
    )
    with (
        only_here(mine, here.store, pull),
        pytest.raises(PullError, match="pull #7 is being worked on by another process"),
        only_here(others, there.store, pull),
    ):
        raise AssertionError("two of them")


def test_a_server_that_does_not_come_is_said_where_it_is_looked_for(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("node.pipeline.place.AGAIN_SECONDS", 0.1)
    store = Store("postgresql://nobody@127.0.0.1:1/overread", tmp_path / "spool", host="a1")
    with pytest.raises(StoreError, match=r"postgresql://127.0.0.1:1/overread: the database cannot be used"):
        wait_for(store, 0.3)
    store.close()


def test_a_move_comes_to_whichever_host_receives(pair: tuple[House, House]) -> None:
    here, there = pair
    assert not presence.receives(here.settings, here.store)
    say(there.store, "receive")
    assert presence.receives(here.settings, here.store)
