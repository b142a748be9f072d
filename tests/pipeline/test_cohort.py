"""Studies of a pull for one route, in shadow: what they are read by, that nothing is delivered, and when that ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases_made import forget, where
from house import SETTINGS, House, make_image
from pydicom import dcmread
from pydicom.uid import generate_uid
from sqlalchemy import select

from node import dispatch
from node.dispatch import Dispatcher
from node.domain import InstanceState, Origin, Priority, Pulled, Study, StudyState
from node.pipeline import recover
from node.pipeline.moves import LOOK_SECONDS, association_of
from node.pipeline.route import Planned, explain, route_study
from node.pipeline.settle import settle_due
from node.storage import events, instances, jobs, pulled, pulls, schema, studies
from node.storage.store import Store

SHADOW = Pulled(1, "second", "shadow")
ROUTES = [
    {**SETTINGS["route"][0], "priority": "high"},
    {"name": "second", "when": {"Modality": ["CR"]}, "bundle": "cardiomegaly", "deliver_to": ["archive"]},
    {"name": "third", "when": {"Modality": ["CR"]}, "bundle": "cardiomegaly", "deliver_to": ["pacs"]},
]
PEERS = [{**SETTINGS["peer"][0], "may": ["send", "receive", "query"]}, SETTINGS["peer"][1]]


@pytest.fixture
def house(build: Callable[..., House]) -> House:
    return build(route=ROUTES, peer=PEERS)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return make_image(tmp_path / "film.dcm")


def bring(house: House, path: Path, by: Pulled = SHADOW) -> Any:
    """As a pull does it."""
    origin = Origin(association_of(by), "PACS", "OVERREAD", "127.0.0.1", "pacs", house.now, by)
    uid = str(dcmread(path).StudyInstanceUID)
    house.receiver.on_pull(origin, uid)
    assert house.put(path, association=origin.id).code == 0x0000
    house.receiver.on_end(origin.id, "released")
    return studies.find(house.store, uid)


def route(house: House, only: str = "") -> Any:
    house.now += 100
    settle_due(house.store, house.settings, house.now)
    plans = [Planned(r, f"{r.bundle}@1.0.0") for r in house.settings.route if only in ("", r.name)]
    return route_study(house.store, house.only_study(), plans, house.now, peers=house.settings.peer)


def made(house: House, revision: int = 1) -> dict[str, Any]:
    """Where each route's job of a revision delivers to."""
    with house.store.read() as connection:
        rows = connection.execute(select(schema.job).where(schema.job.c.revision == revision)).all()
    return {row.route: sorted(row.deliver_to) for row in rows}


def lose_the_database(house: House) -> None:
    forget(house.store)
    house.store = Store(where(house.store), house.spool.root)
    house.store.open()
    house.restart()
    recover.recover(house.store, house.spool, own_device_uid=house.own, now=house.now)


def test_only_the_route_of_the_pull_reads_it_and_nothing_is_delivered(house: House, film: Path) -> None:
    bring(house, film)
    study = route(house)
    assert (study.state, made(house)) == (StudyState.ROUTED, {"second": []})
    reasons = {m.route: m.reason for m in studies.route_reasons(house.store, study)}
    assert reasons["chest"].startswith("not asked: the study came by pull #1, for route second only, shadow")
    assert reasons["second"] == "1 of 1 images match"
    said = {r.name: reason for _, r, reason in explain(house.store, study, house.settings.route)}
    assert (said["second"], said["third"][:9]) == ("", "not asked")
    story = [e.text for e in events.of_study(house.store, study.id)]
    assert story[0].startswith("first instance, from pacs, by pull #1, for route second only, shadow: nothing is")


def test_what_the_route_does_not_match_it_does_not_read(house: House, tmp_path: Path) -> None:
    bring(house, make_image(tmp_path / "ct.dcm", Modality="CT"))
    study = route(house)
    assert (study.state, made(house)) == (StudyState.UNROUTED, {})


def test_a_pull_without_a_route_is_read_by_all_after_everybody_else(house: House, film: Path) -> None:
    bring(house, film, Pulled(1))
    study = route(house)
    assert made(house) == {"chest": ["pacs"], "second": ["archive"], "third": ["pacs"]}
    assert {j.priority for j in jobs.of_study(house.store, study.id)} == {Priority.BULK}


@pytest.mark.parametrize(("by", "priority"), [(Pulled(1), Priority.STAT), (SHADOW, Priority.BULK)])
def test_urgent_images_stay_urgent_unless_nobody_is_told(
    house: House, tmp_path: Path, by: Pulled, priority: Priority
) -> None:
    bring(house, make_image(tmp_path / "stat.dcm", RequestedProcedurePriority="STAT"), by)
    study = route(house)
    assert {j.priority for j in jobs.of_study(house.store, study.id)} == {priority}


def test_a_route_that_is_gone_leaves_its_studies_alone(house: House, film: Path) -> None:
    bring(house, film)
    study = route(house, only="chest")
    assert (study.state, made(house)) == (StudyState.UNROUTED, {})
    assert "second: not in the settings, and pull #1 was made for it" in study.reason


def test_a_study_of_two_pulls_is_read_by_both_routes_and_by_no_other(house: House, film: Path) -> None:
    study = bring(house, film)
    route(house)
    other = Pulled(2, "third", "shadow")
    assert pulled.join(house.store, study.id, other, now=house.now)
    assert pulled.join(house.store, study.id, other, now=house.now)
    route(house)
    assert made(house, 2) == {"third": []}
    assert pulled.of_study(house.store, study.id) == (SHADOW, other)


def test_a_study_that_was_sent_first_is_never_made_one_of_a_pull(house: House, film: Path) -> None:
    house.receive(film)
    study = house.only_study()
    assert not pulled.join(house.store, study.id, SHADOW, now=house.now)
    bring(house, film)
    route(house)
    assert made(house) == {"chest": ["pacs"], "second": ["archive"], "third": ["pacs"]}


@pytest.mark.parametrize("same", [True, False], ids=["the same image", "another image"])
def test_a_study_that_is_also_sent_is_one_like_every_other(
    house: House, film: Path, tmp_path: Path, same: bool
) -> None:
    study = bring(house, film)
    assert route(house).revision == 1
    more = make_image(tmp_path / "more.dcm", StudyInstanceUID=study.study_instance_uid)
    house.receive(film if same else more)
    assert pulled.of_study(house.store, study.id) == ()
    assert route(house).revision == 2
    assert made(house, 2) == {"chest": ["pacs"], "second": ["archive"], "third": ["pacs"]}
    story = [e.text for e in events.of_study(house.store, study.id)]
    assert "also sent by pacs: from now on a study like every other" in story
    # and it stays so
    house.receive(film)
    assert route(house).revision == 2


def test_one_that_waits_for_a_decision_is_one_like_every_other_after_it(house: House, film: Path) -> None:
    study = bring(house, film)
    route(house)
    ds = dcmread(film)
    same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    house.receive(make_image(film.with_name("other.dcm"), **same, PatientID="P2"))
    assert house.only_study().state is StudyState.HELD
    studies.reject(house.store, house.only_study(), now=house.now)
    assert route(house).revision == 2
    assert made(house, 2) == {"chest": ["pacs"], "second": ["archive"], "third": ["pacs"]}
    assert study.id == house.only_study().id


def test_a_lost_database_forgets_no_pull(house: House, film: Path) -> None:
    bring(house, film)
    route(house)
    lose_the_database(house)
    assert pulled.of_study(house.store, house.only_study().id) == (SHADOW,)
    route(house)
    assert made(house) == {"second": []}


def test_a_lost_database_and_a_lost_note_of_its_association_deliver_nothing(house: House, film: Path) -> None:
    bring(house, film)
    for note in house.spool.assoc.iterdir():
        note.unlink()
    lose_the_database(house)
    study = route(house)
    assert (study.state, made(house)) == (StudyState.UNROUTED, {})
    assert "(forgotten): not in the settings" in study.reason


def test_a_lost_database_does_not_take_a_study_back_that_was_sent(house: House, film: Path) -> None:
    bring(house, film)
    route(house)
    house.receive(film)
    lose_the_database(house)
    assert pulled.of_study(house.store, house.only_study().id) == ()
    route(house)
    assert made(house) == {"chest": ["pacs"], "second": ["archive"], "third": ["pacs"]}


class Moved:
    """A pull whose study the PACS was told to move, at a time."""

    def __init__(self, house: House, uid: str, *, route: str = "second", mode: str = "shadow") -> None:
        self.house = house
        self.pull = pulls.begin(house.store, "pacs", {"any": []}, {}, route=route, mode=mode, now=house.now)
        pulls.found(house.store, self.pull.id, {uid: 1}, missing=(), now=house.now)
        study = pulls.claim(house.store, self.pull.id, now=house.now)
        assert study
        self.study = study

    def tell(self) -> None:
        pulls.moving(self.house.store, self.study, now=self.house.now)

    def end(self) -> None:
        self.tell()
        pulls.done(self.house.store, self.study, taken=1, expected=1, now=self.house.now)


@pytest.fixture
def uid(film: Path) -> Iterator[str]:
    yield str(dcmread(film).StudyInstanceUID)


def test_what_a_peer_sends_because_it_was_told_to_move_it_is_of_the_pull(house: House, film: Path, uid: str) -> None:
    Moved(house, uid).tell()
    house.receive(film)
    study = route(house)
    assert made(house) == {"second": []}
    assert pulled.of_study(house.store, study.id) == (SHADOW,)
    lose_the_database(house)
    assert pulled.of_study(house.store, house.only_study().id) == (SHADOW,)


def test_what_it_sends_before_or_long_after_it_was_told_is_not(house: House, film: Path, uid: str) -> None:
    moved = Moved(house, uid)
    house.receive(film)
    assert pulled.of_study(house.store, house.only_study().id) == ()
    moved.tell()
    house.now += pulls.MOVED_SECONDS + 1
    house.receive(film)
    assert pulled.of_study(house.store, house.only_study().id) == ()


def test_a_pacs_may_send_by_another_ae_title_than_it_is_asked_by(house: House, film: Path, uid: str) -> None:
    Moved(house, uid).tell()
    name = house.begin(calling="ARCHIVE")
    house.put(film, association=name)
    house.receiver.on_end(name, "released")
    assert pulled.of_study(house.store, house.only_study().id) == (SHADOW,)
    route(house)
    assert made(house) == {"second": []}


def test_what_is_sent_after_a_move_has_ended_is_like_every_other(house: House, film: Path, uid: str) -> None:
    """Also on an association that is open all the time, and the rows of what came by it are ended one by one."""
    moved = Moved(house, uid)
    moved.tell()
    name = house.begin()
    house.put(film, association=name)
    moved.end()
    house.now += pulls.ENDED_SECONDS - 1
    late = make_image(film.with_name("late.dcm"), StudyInstanceUID=uid)
    house.put(late, association=name)
    study = house.only_study()
    assert pulled.of_study(house.store, study.id) == (SHADOW,)
    house.now += LOOK_SECONDS
    house.put(film, association=name)
    assert pulled.of_study(house.store, study.id) == ()
    with house.store.read() as connection:
        ended = {row.id: row.ended_at for row in connection.execute(select(schema.association))}
    assert ended.pop(name) is None
    assert list(ended.values()) == [house.now]
    house.receiver.on_end(name, "released")
    route(house)
    assert made(house) == {"chest": ["pacs"], "second": ["archive"], "third": ["pacs"]}


def test_a_move_that_takes_longer_than_that_is_still_one(house: House, film: Path, uid: str, tmp_path: Path) -> None:
    Moved(house, uid).tell()
    name = house.begin()
    house.put(film, association=name)
    for n in range(3):
        house.now += pulls.ENDED_SECONDS * 2
        house.put(make_image(tmp_path / f"{n}.dcm", StudyInstanceUID=uid), association=name)
    study = house.only_study()
    assert pulled.of_study(house.store, study.id) == (SHADOW,)
    assert len(instances.of_study(house.store, study.id)) == 4
    with house.store.read() as connection:
        (carried,) = connection.execute(select(schema.association.c.id)).scalars()
    assert carried.startswith("cohort-")


def test_an_association_that_stays_open_is_asked_about_what_is_new_and_remembers_nothing_else(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    real = pulls.moved

    def moved(store: Store, uid: str, peer: str, *, now: float) -> Pulled | None:
        asked.append(uid)
        return real(store, uid, peer, now=now)

    monkeypatch.setattr(pulls, "moved", moved)
    name = house.begin()
    uids = [generate_uid() for _ in range(20)]
    for n, uid in enumerate(uids):
        house.now += LOOK_SECONDS
        for image in range(3):
            house.put(make_image(tmp_path / f"{n}-{image}.dcm", StudyInstanceUID=uid), association=name)
    # each when it comes, and once more when the next one does; not with every image
    assert len(asked) == 2 * len(uids) - 1
    assert asked.count(uids[0]) == 2


def test_other_studies_of_the_same_association_are_like_every_other(
    house: House, film: Path, uid: str, tmp_path: Path
) -> None:
    Moved(house, uid).tell()
    house.receive(film, make_image(tmp_path / "other.dcm", StudyInstanceUID=generate_uid()))
    of = {s.study_instance_uid: pulled.of_study(house.store, s.id) for s in studies.latest(house.store, 5)}
    assert sorted(map(len, of.values())) == [0, 1]
    assert of[uid] == (SHADOW,)
    # each of them settles as soon as the association was released
    house.now += 5
    assert len(settle_due(house.store, house.settings, house.now).studies) == 2
    assert [i.state for i in instances.of_study(house.store, 1)] == [InstanceState.CURRENT]


def test_what_waits_of_a_pull_is_as_urgent_as_its_study_once_somebody_sends_it(house: House, film: Path) -> None:
    bring(house, film, Pulled(1))
    study = route(house)
    assert {j.priority for j in jobs.of_study(house.store, study.id)} == {Priority.BULK}
    house.receive(film)
    route(house)
    assert {j.priority for j in jobs.of_study(house.store, study.id)} == {Priority.HIGH, Priority.ROUTINE}


def test_pulled_studies_are_settled_and_routed_in_lots_and_what_is_sent_meanwhile_comes_first(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "LOT", 2)
    for n in range(5):
        bring(house, make_image(tmp_path / f"{n}.dcm", StudyInstanceUID=f"1.2.{n}"))
    plans = [Planned(r, f"{r.bundle}@1.0.0") for r in house.settings.route]
    house.now += 100
    order: list[str] = []
    real = dispatch.route_study

    def routes(store: Store, study: Study, *arguments: Any, **more: Any) -> Study:
        order.append(study.study_instance_uid)
        if len(order) == 1:
            house.receive(make_image(tmp_path / "sent.dcm", StudyInstanceUID="1.3"))
            house.now += 100
        return real(store, study, *arguments, **more)

    monkeypatch.setattr(dispatch, "route_study", routes)
    clock = {"clock": lambda: house.now, "monotonic": lambda: house.now}
    Dispatcher(house.store, house.spool, settings=house.settings, bell=house.bell, plans=plans, **clock).advance()
    assert order == ["1.2.0", "1.2.1", "1.3", "1.2.2", "1.2.3", "1.2.4"]
