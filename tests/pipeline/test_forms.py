"""Results go out in the form that each destination takes, to real DCMTK receivers of several kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models_made
import pytest
from house import SETTINGS, House
from profiled import EXPLICIT, IMPLICIT, StoreSCP
from pydicom import dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
)
from test_report import build, work_of
from web_made import Reply, Web, failed, stored, uid_in

from node.domain import Delivery, DeliveryState, InstanceState, JobState
from node.network.standin import StandIn
from node.pipeline.deliver import Courier
from node.results import form
from node.storage import deliveries, events, forms, instances, invariants, jobs, negotiated, queue, upkeep
from node.storage.spool import digest_of

pytestmark = pytest.mark.dcmtk

Make = Callable[..., Path]
NewPacs = Callable[..., StoreSCP]
SC = (str(SecondaryCaptureImageStorage), EXPLICIT)
SC_IMPLICIT = (str(SecondaryCaptureImageStorage), IMPLICIT)
COMPREHENSIVE_3D = (str(Comprehensive3DSRStorage), EXPLICIT)
COMPREHENSIVE = (str(ComprehensiveSRStorage), EXPLICIT)
ENHANCED = (str(EnhancedSRStorage), EXPLICIT)
ENHANCED_IMPLICIT = (str(EnhancedSRStorage), IMPLICIT)


@pytest.fixture
def pacs(program: Callable[[str], str], tmp_path: Path) -> Iterator[NewPacs]:
    made: list[StoreSCP] = []

    def start(*taken: tuple[str, str]) -> StoreSCP:
        one = StoreSCP(program("storescp"), tmp_path / f"pacs{len(made)}")
        made.append(one)
        one.start(*taken)
        return one

    yield start
    for one in made:
        one.stop()


def between(*ports: int, **route: Any) -> dict[str, Any]:
    """Settings of a house whose results go to "pacs" at the first port and to "archive" at the second."""
    peers = [SETTINGS["peer"][n] | {"port": port} for n, port in enumerate(ports)]
    to = [p["name"] for p in peers]
    return {"peer": peers, "route": [SETTINGS["route"][0] | {"deliver_to": to} | route]}


def report(house: House, *paths: Path) -> None:
    work = work_of(house, *paths)
    made = build(house, work, [models_made.reading(0.83) for _ in paths])
    assert jobs.finish(house.store, work.job, JobState.DONE, made.findings, made.results, reason="", now=house.now)


def deliver(house: House, name: str = "pacs") -> None:
    peer = house.settings.peer_named(name)
    assert peer is not None
    courier = Courier(
        house.store,
        peer,
        spool=house.spool,
        settings=house.settings,
        clock=lambda: house.now,
        chance=lambda _a, b: b,
    )
    courier.deliver_due()
    courier.close()


def of_study(house: House, kind: str, peer: str = "pacs") -> Delivery:
    (one,) = [d for d in deliveries.of_study(house.store, house.only_study().id) if (d.kind, d.peer) == (kind, peer)]
    return one


def results(house: House) -> dict[str, Any]:
    return {r.kind: r for r in jobs.results(house.store, house.only_study().id)}


def arrived(pacs: StoreSCP) -> dict[str, tuple[str, str]]:
    """SOP class and transfer syntax of what a PACS holds, by SOP Instance UID."""
    kept = [dcmread(path) for path in pacs.kept()]
    return {str(ds.SOPInstanceUID): (str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)) for ds in kept}


@pytest.mark.parametrize(
    ("takes", "gets"),
    [
        ((COMPREHENSIVE_3D, COMPREHENSIVE, ENHANCED, SC), COMPREHENSIVE_3D),
        ((COMPREHENSIVE, SC), COMPREHENSIVE),
        ((ENHANCED, SC), ENHANCED),
        ((ENHANCED, COMPREHENSIVE, SC), COMPREHENSIVE),
        ((ENHANCED_IMPLICIT, SC), ENHANCED_IMPLICIT),
        (((str(Comprehensive3DSRStorage), IMPLICIT), COMPREHENSIVE, SC), (str(Comprehensive3DSRStorage), IMPLICIT)),
    ],
    ids=["all", "Comprehensive", "Enhanced", "the better of two", "Enhanced, Implicit", "the class before the syntax"],
)
def test_a_report_goes_in_the_first_form_that_the_pacs_takes(
    build_house: Any, image: Make, pacs: NewPacs, takes: tuple[tuple[str, str], ...], gets: tuple[str, str]
) -> None:
    there = pacs(*takes)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    sr = of_study(house, "sr")
    assert (sr.state, of_study(house, "sc").state) == (DeliveryState.SENT, DeliveryState.SENT)
    assert arrived(there) == {sr.sop_instance_uid: gets, of_study(house, "sc").sop_instance_uid: SC}
    original = results(house)["sr"]
    assert sr.sop_instance_uid == form.instance_uid(
        original.sop_instance_uid, original_class=original.sop_class_uid, sop_class_uid=gets[0]
    )
    assert (sr.form_id is None) == (gets == COMPREHENSIVE_3D)
    assert invariants.verify(house.store, house.spool, house.now) == []


def test_a_pacs_that_takes_implicit_vr_only_gets_all_in_it(build_house: Any, image: Make, pacs: NewPacs) -> None:
    there = pacs((str(Comprehensive3DSRStorage), IMPLICIT), SC_IMPLICIT)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    uids = {kind: r.sop_instance_uid for kind, r in results(house).items()}
    assert arrived(there) == {uids["sr"]: (str(Comprehensive3DSRStorage), IMPLICIT), uids["sc"]: SC_IMPLICIT}
    sent = next(dcmread(p) for p in there.kept() if dcmread(p).Modality != "SR")
    assert sent.PixelData == dcmread(results(house)["sc"].path).PixelData


def test_what_leaves_are_the_bytes_of_the_form_that_was_kept_and_twice_the_same(
    build_house: Any, image: Make, pacs: NewPacs
) -> None:
    there = pacs(COMPREHENSIVE, SC)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    sr = of_study(house, "sr")
    (first,) = [p for p in there.kept() if dcmread(p).Modality == "SR"]
    assert digest_of(first) == digest_of(sr.path)
    before = first.read_bytes()
    first.unlink()
    with house.store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET state = 'QUEUED'")
    deliver(house)
    (again,) = [p for p in there.kept() if dcmread(p).Modality == "SR"]
    assert again.read_bytes() == before
    assert len(forms.of_result(house.store, sr.result_id)) == 1


def test_two_destinations_get_one_result_in_two_forms(build_house: Any, image: Make, pacs: NewPacs) -> None:
    old, new = pacs(ENHANCED, SC), pacs(COMPREHENSIVE_3D, SC)
    house = build_house(**between(old.port, new.port))
    report(house, image())
    deliver(house, "pacs")
    deliver(house, "archive")
    assert ENHANCED in arrived(old).values() and COMPREHENSIVE_3D in arrived(new).values()
    assert of_study(house, "sr", "pacs").sop_instance_uid != of_study(house, "sr", "archive").sop_instance_uid
    assert of_study(house, "sr", "archive").sop_instance_uid == results(house)["sr"].sop_instance_uid


def test_a_pacs_that_is_upgraded_gets_new_results_in_the_better_class(
    build_house: Any, image: Make, pacs: NewPacs
) -> None:
    there = pacs(ENHANCED, SC)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    there.start(COMPREHENSIVE_3D, ENHANCED, SC)
    first = of_study(house, "sr")
    with house.store.write() as connection:
        connection.exec_driver_sql(f"UPDATE delivery SET state = 'QUEUED' WHERE id = {first.id}")
    deliver(house)
    # What went before keeps its form: the PACS knows it by that name
    assert of_study(house, "sr").sop_instance_uid == first.sop_instance_uid
    assert list(arrived(there).values()).count(ENHANCED) == 1
    other = image()
    house.now += 10
    work = work_of_second(house, other)
    made = build(house, work, [models_made.reading(0.83)])
    jobs.finish(house.store, work.job, JobState.DONE, made.findings, made.results, reason="", now=house.now)
    deliver(house)
    assert COMPREHENSIVE_3D in arrived(there).values()


def work_of_second(house: House, path: Path) -> Any:
    from node.pipeline.route import Planned, route_study
    from node.pipeline.settle import settle_due
    from node.storage import studies

    house.receive(path)
    house.now += 10
    (settled,) = settle_due(house.store, house.settings, house.now).studies
    route_study(house.store, settled, [Planned(house.settings.route[0], "cardiomegaly@1.0.0")], house.now)
    assert len(studies.latest(house.store, 10)) == 2
    (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    return work


def test_a_form_that_is_not_taken_any_more_gives_way_to_another(build_house: Any, image: Make, pacs: NewPacs) -> None:
    there = pacs(ENHANCED, SC)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    with house.store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET state = 'QUEUED'")
    there.start(COMPREHENSIVE_3D, SC)
    deliver(house)
    sr = of_study(house, "sr")
    assert (sr.state, sr.form_id, sr.sop_instance_uid) == (
        DeliveryState.SENT,
        None,
        results(house)["sr"].sop_instance_uid,
    )


def test_a_report_that_no_class_is_taken_of_is_left_out_where_its_picture_goes(
    build_house: Any, image: Make, pacs: NewPacs
) -> None:
    there = pacs(SC)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    sr = of_study(house, "sr")
    assert (sr.state, of_study(house, "sc").state) == (DeliveryState.OMITTED, DeliveryState.SENT)
    assert "accepts no Comprehensive 3D SR Storage or Comprehensive SR Storage or Enhanced SR Storage" in sr.reason
    assert sr.reason.endswith("its sc says the same")
    assert list(arrived(there).values()) == [SC]
    assert forms.of_result(house.store, sr.result_id) == []
    # A person may have it tried again, when the PACS has learnt it
    there.start(COMPREHENSIVE, SC)
    assert deliveries.retry(house.store, house.only_study(), now=house.now) == 1
    deliver(house)
    assert of_study(house, "sr").state is DeliveryState.SENT


def test_a_report_that_goes_alone_and_is_not_taken_is_dead_after_three_tries_and_says_what_to_change(
    build_house: Any, image: Make, pacs: NewPacs
) -> None:
    there = pacs(SC)
    house = build_house(**between(there.port, results=["sr"]))
    report(house, image())
    for n in range(3):
        assert of_study(house, "sr").state is DeliveryState.QUEUED, n
        deliver(house)
        house.now += 1000
    sr = of_study(house, "sr")
    assert sr.state is DeliveryState.DEAD
    assert 'add "sc" to the results of the route here, and to those of [[peer]] pacs' in sr.reason


def test_a_pacs_that_takes_nothing_makes_all_dead_and_none_left_out(
    build_house: Any, image: Make, pacs: NewPacs
) -> None:
    there = pacs()
    house = build_house(**between(there.port))
    report(house, image())
    for _ in range(3):
        deliver(house)
        house.now += 1000
    assert {of_study(house, k).state for k in ("sr", "sc")} == {DeliveryState.DEAD}
    assert 'leave "sc" out of the results of [[peer]] pacs here' in of_study(house, "sc").reason


def test_what_was_negotiated_is_remembered_with_its_time(build_house: Any, image: Make, pacs: NewPacs) -> None:
    there = pacs(COMPREHENSIVE, SC)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    said = negotiated.known(house.store, "pacs")
    assert {pair for pair, (accepted, _) in said.items() if accepted} == {COMPREHENSIVE, SC}
    assert {pair for pair, (accepted, _) in said.items() if not accepted} == {
        *form.pairs(Comprehensive3DSRStorage),
        SC_IMPLICIT,
    } - {COMPREHENSIVE}
    assert {at for _, at in said.values()} == {house.now}
    there.start(COMPREHENSIVE_3D, SC)
    with house.store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET state = 'QUEUED'")
    house.now += 60
    deliver(house)
    after = negotiated.known(house.store, "pacs")
    assert (after[COMPREHENSIVE_3D], after[COMPREHENSIVE]) == ((True, house.now), (False, house.now))


def test_the_story_says_in_which_form_a_result_went(build_house: Any, image: Make, pacs: NewPacs) -> None:
    there = pacs(ENHANCED_IMPLICIT, SC)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    story = [e.text for e in events.of_study(house.store, house.only_study().id)]
    assert "pacs: sr goes as Enhanced SR Storage in Implicit VR Little Endian" in story


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    scp = StandIn(tmp_path / "standin", ae_title="PACS")
    scp.start()
    yield scp
    scp.stop()


def test_a_class_that_is_accepted_and_then_not_supported_gives_way_to_the_next_at_once(
    build_house: Any, image: Make, standin: StandIn
) -> None:
    house = build_house(**between(standin.port))
    report(house, image())
    original = results(house)["sr"].sop_instance_uid
    standin.answer = lambda uid: 0x0122 if uid == original else 0x0000
    deliver(house)
    sr = of_study(house, "sr")
    assert (sr.state, sr.sop_class_uid) == (DeliveryState.SENT, ComprehensiveSRStorage)
    assert not negotiated.known(house.store, "pacs")[COMPREHENSIVE_3D][0]


def test_a_peer_that_answers_twice_that_it_supports_no_class_gets_the_picture_only(
    build_house: Any, image: Make, standin: StandIn
) -> None:
    house = build_house(**between(standin.port))
    report(house, image())
    picture = results(house)["sc"].sop_instance_uid
    standin.answer = lambda uid: 0x0000 if uid == picture else 0x0122
    deliver(house)
    assert of_study(house, "sr").state is DeliveryState.QUEUED
    house.now += 1000
    deliver(house)
    assert of_study(house, "sr").state is DeliveryState.OMITTED
    assert len(standin.received()) == 1


def test_a_form_that_was_lost_is_made_again_from_its_result(build_house: Any, image: Make, pacs: NewPacs) -> None:
    there = pacs(COMPREHENSIVE, SC)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    before = of_study(house, "sr")
    before.path.unlink()
    assert any(p.startswith("I2: form") for p in invariants.verify(house.store, house.spool, house.now))
    with house.store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET state = 'QUEUED'")
    deliver(house)
    assert of_study(house, "sr").sop_instance_uid == before.sop_instance_uid
    assert invariants.verify(house.store, house.spool, house.now) == []


def test_an_altered_form_violates_an_invariant(build_house: Any, image: Make, pacs: NewPacs) -> None:
    there = pacs(COMPREHENSIVE, SC)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    path = of_study(house, "sr").path
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    (said,) = invariants.verify(house.store, house.spool, house.now)
    assert said.startswith("I1: form 1 of study 1 was altered")


def test_a_form_that_comes_back_is_known_as_ours(build_house: Any, image: Make, pacs: NewPacs, tmp_path: Path) -> None:
    there = pacs(COMPREHENSIVE, SC)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    ds = dcmread(of_study(house, "sr").path)
    # Known by its UID alone, also where a PACS has taken the Device UID away
    del ds.DeviceUID
    back = tmp_path / "back.dcm"
    ds.save_as(back)
    house.receive(back)
    (one,) = [
        i for i in instances.of_study(house.store, house.only_study().id) if i.sop_instance_uid == ds.SOPInstanceUID
    ]
    assert one.state is InstanceState.RECEIPT
    assert house.only_study().revision == 1


def test_a_form_goes_when_its_result_is_purged(build_house: Any, image: Make, pacs: NewPacs) -> None:
    there = pacs(COMPREHENSIVE, SC)
    house = build_house(**between(there.port))
    report(house, image())
    deliver(house)
    kept = list(house.spool.forms.rglob("*.dcm"))
    assert len(kept) == 1
    items = upkeep.purge(house.store, house.settings.retention, house.now + 400 * 86400)
    assert sum(len(i.forms) for i in items) == 1
    assert not kept[0].exists()
    assert invariants.verify(house.store, house.spool, house.now) == []


def test_a_form_without_a_row_is_purged_when_it_is_old(house: House) -> None:
    stray = house.spool.form_path("2.25.77", EXPLICIT)
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x")
    written = stray.stat().st_mtime
    assert upkeep.purge_forms(house.store, house.spool, written + 3600) == 0
    assert invariants.verify(house.store, house.spool, written + 3600) == []
    assert any(
        p.startswith("I3: the file forms/") for p in invariants.verify(house.store, house.spool, written + 3 * 86400)
    )
    assert upkeep.purge_forms(house.store, house.spool, written + 2 * 86400) == 1
    assert not stray.exists()


def test_a_delivery_whose_lease_was_lost_while_its_form_was_made_does_not_go(
    build_house: Any, image: Make, pacs: NewPacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = pacs(COMPREHENSIVE, SC)
    house = build_house(**between(there.port))
    report(house, image())
    original = form.make

    def slow(*arguments: Any) -> bytes:
        with house.store.write() as connection:
            connection.exec_driver_sql("UPDATE delivery SET fence = fence + 1 WHERE result_id = 2")
        return original(*arguments)

    monkeypatch.setattr(form, "make", slow)
    deliver(house)
    assert list(arrived(there).values()) == [SC]
    assert of_study(house, "sr").form_id is None


# --- by STOW-RS ----------------------------------------------------------------------------------


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.stop()


def by_web(web: Web, **route: Any) -> dict[str, Any]:
    return {
        "peer": [{"name": "pacs", "url": web.url}],
        "route": [SETTINGS["route"][0] | {"deliver_to": ["pacs"]} | route],
    }


def test_results_go_to_a_url_as_the_bytes_that_were_stored(build_house: Any, image: Make, web: Web) -> None:
    house = build_house(**by_web(web))
    report(house, image())
    deliver(house)
    assert {of_study(house, kind).state for kind in ("sr", "sc")} == {DeliveryState.SENT}
    assert {r.part for r in web.requests} == {r.path.read_bytes() for r in results(house).values()}
    assert negotiated.known(house.store, "pacs")[COMPREHENSIVE_3D][0]


def test_a_service_that_supports_another_class_gets_that_form(build_house: Any, image: Make, web: Web) -> None:
    house = build_house(**by_web(web))
    report(house, image())
    original = results(house)["sr"].sop_instance_uid
    web.reply = lambda r: failed(0x0122)(r) if uid_in(r) == original else stored(r)
    deliver(house)
    assert (of_study(house, "sr").state, of_study(house, "sr").sop_class_uid) == (
        DeliveryState.SENT,
        ComprehensiveSRStorage,
    )


def test_a_service_that_supports_no_report_gets_the_picture_only(build_house: Any, image: Make, web: Web) -> None:
    house = build_house(**by_web(web))
    report(house, image())
    picture = results(house)["sc"].sop_instance_uid
    web.reply = lambda r: stored(r) if uid_in(r) == picture else failed(0x0122, 202)(r)
    deliver(house)
    house.now += 1000
    deliver(house)
    assert (of_study(house, "sr").state, of_study(house, "sc").state) == (DeliveryState.OMITTED, DeliveryState.SENT)


def test_a_service_that_does_not_know_us_is_tried_three_times_and_the_row_says_what_to_change(
    build_house: Any, image: Make, web: Web
) -> None:
    web.reply = lambda r: Reply(401)
    house = build_house(**by_web(web))
    report(house, image())
    for n in range(3):
        assert of_study(house, "sr").state is DeliveryState.QUEUED, n
        deliver(house)
        house.now += 1000
    assert of_study(house, "sr").state is DeliveryState.DEAD
    assert "give user with password_file, or token_file" in of_study(house, "sr").reason
    # One request for each round: the second object shares the answer to the first
    assert len(web.requests) == 3


def test_a_service_that_is_busy_is_tried_again_later(build_house: Any, image: Make, web: Web) -> None:
    web.reply = lambda r: Reply(503)
    house = build_house(**by_web(web))
    report(house, image())
    deliver(house)
    assert {(d.state, d.refusals) for d in deliveries.of_study(house.store, 1)} == {(DeliveryState.QUEUED, 0)}
    web.reply = stored
    house.now += 10
    deliver(house)
    assert {d.state for d in deliveries.of_study(house.store, 1)} == {DeliveryState.SENT}
