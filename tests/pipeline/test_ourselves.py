"""The node associates with itself for test objects, and this opens nothing for anybody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import SETTINGS, House
from pydicom import dcmread

from config.settings import Settings
from node.admin.phantom import make_study
from node.network.incoming import CommitmentReport, CommitmentRequest, Reference, Requestor, Status
from node.pipeline import ourselves
from node.pipeline.receive import refuse
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.storage import jobs, schema, studies
from node.storage.trials import OURSELVES

Make = Callable[..., Path]
NOT_AUTHORISED = 0x0124


def asks(calling: str, address: str) -> Requestor:
    return Requestor(calling, "OVERREAD", address, 4000)


@pytest.mark.parametrize(
    ("calling", "address", "bind", "let_in"),
    [
        ("OVERREAD", "127.0.0.1", "0.0.0.0", True),
        ("OVERREAD", "::1", "::", True),
        ("OVERREAD", "::ffff:127.0.0.1", "::", True),
        ("OVERREAD", "10.1.2.9", "10.1.2.9", True),
        ("OVERREAD", "10.1.2.8", "10.1.2.9", False),
        ("OVERREAD", "10.1.2.8", "0.0.0.0", False),
        ("SOMEBODY", "127.0.0.1", "0.0.0.0", False),
    ],
)
def test_only_by_its_own_title_and_only_from_its_own_machine(
    calling: str, address: str, bind: str, let_in: bool
) -> None:
    settings = Settings(**(SETTINGS | {"listener": {"bind": bind}}))
    assert (refuse(asks(calling, address), settings) is None) is let_in


@pytest.mark.parametrize(("bind", "address"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.1.2.9", "10.1.2.9")])
def test_the_node_reaches_itself_where_it_listens(bind: str, address: str) -> None:
    assert ourselves.address_of(Settings(listener={"bind": bind})) == address  # type: ignore[arg-type]


def own(house: House, name: str = "c" * 12) -> str:
    house.receiver.on_accept(name, asks("OVERREAD", "127.0.0.1"))
    return name


def send_itself(house: House, folder: Path, wanted: list[Any]) -> tuple[str, list[Status]]:
    uid, paths = make_study(folder, wanted, now=house.now)
    name = own(house)
    answers = [house.put(path, association=name) for path in paths]
    house.receiver.on_end(name, "released")
    return uid, answers


def test_a_test_object_is_taken_and_what_is_none_is_not(house: House, image: Make, tmp_path: Path) -> None:
    _, answers = send_itself(house, tmp_path, [{"Modality": ["DX"]}])
    assert [a.code for a in answers] == [0x0000]
    assert studies.by_id(house.store, 1).peer == OURSELVES
    name = own(house, "d" * 12)
    for attributes in ({}, {"PatientID": "OVERREAD-TEST"}, {"PatientName": "OVERREAD^TEST"}):
        answer = house.put(image(**attributes), association=name)
        assert answer.code == NOT_AUTHORISED
        assert answer.comment == "by its own AE title only objects of a test"
    with house.store.read() as connection:
        assert len(connection.execute(schema.study.select()).all()) == 1
    assert len(list(house.spool.objects())) == 1


def test_a_test_object_does_not_get_into_somebodys_study(house: House, image: Make) -> None:
    theirs = image()
    house.receive(theirs)
    test = {"PatientID": "OVERREAD-TEST", "PatientName": "OVERREAD^TEST"}
    forged = image(StudyInstanceUID=dcmread(theirs).StudyInstanceUID, **test)
    assert house.put(forged, association=own(house)).code == NOT_AUTHORISED
    assert house.only_study().state == "RECEIVING"


def test_a_peer_that_sends_of_the_test_patient_is_a_peer(house: House, image: Make) -> None:
    house.receive(image(PatientID="OVERREAD-TEST", PatientName="OVERREAD^TEST"))
    assert house.only_study().peer == "pacs"


def test_a_peer_that_has_our_title_is_that_peer(build: Callable[..., House], image: Make) -> None:
    twin = {"name": "twin", "ae_title": "OVERREAD", "networks": ["127.0.0.1"], "may": ["send"]}
    house = build(peer=[*SETTINGS["peer"], twin])
    assert house.put(image(), association=own(house)).code == 0x0000
    assert house.only_study().peer == "twin"


def test_storage_commitment_is_not_for_ourselves(house: House) -> None:
    name, reference = own(house), Reference("1.2", "1.2.3")
    asked = house.receiver.on_commitment_request(name, CommitmentRequest("2.25.1", (reference,)))
    reported = house.receiver.on_commitment_report(name, CommitmentReport("2.25.1.1", (reference,)))
    assert (asked.code, reported.code) == (NOT_AUTHORISED, NOT_AUTHORISED)


def test_a_test_goes_through_a_route_of_other_senders_and_its_results_go_nowhere(
    build: Callable[..., House], tmp_path: Path
) -> None:
    route = SETTINGS["route"][0] | {"from_peers": ["pacs"]}
    house = build(route=[route])
    send_itself(house, tmp_path, [route["when"]])
    house.now += 100
    settle_due(house.store, house.settings, house.now)
    plans = [Planned(r, "cardiomegaly@1.0.0") for r in house.settings.route]
    study = route_study(house.store, studies.by_id(house.store, 1), plans, house.now, peers=house.settings.peer)
    assert study.state == "ROUTED"
    with house.store.read() as connection:
        assert [row.deliver_to for row in connection.execute(schema.job.select())] == [{}]
    assert len(jobs.of_study(house.store, study.id)) == 1
