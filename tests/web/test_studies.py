"""The list of studies, one of them, and what an operator asks for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from house import House, make_image
from pydicom.uid import generate_uid
from rows import built
from visitors import Person

from node.domain import DeliveryState, FindingRow, JobState, Study, StudyState
from node.storage import deliveries, instances, jobs, queue, studies

Routed = Callable[[Path], Study]


def listed(answer: str) -> list[int]:
    return [int(n) for n in re.findall(r'<th scope="row"><a href="/studies/(\d+)"', answer)]


@pytest.fixture
def three(house: House, routed: Routed, tmp_path: Path) -> None:
    """A study that is routed, one that no route takes, one that is arriving."""
    routed(make_image(tmp_path / "a.dcm", PatientID="P1", AccessionNumber="A1"))
    house.receive(make_image(tmp_path / "b.dcm", PatientID="P2", AccessionNumber="A2"))
    house.receive(make_image(tmp_path / "c.dcm", PatientID="P2", AccessionNumber="A3"))


def test_studies_are_listed_the_newest_first(viewer: Person, three: None) -> None:
    assert listed(viewer.get("/studies").text) == [3, 2, 1]


def test_studies_are_chosen_by_state_route_and_day(house: House, viewer: Person, three: None) -> None:
    assert listed(viewer.get("/studies?state=ROUTED").text) == [1]
    assert listed(viewer.get("/studies?route=chest").text) == [1]
    assert listed(viewer.get("/studies?route=other").text) == []
    assert len(listed(viewer.get("/studies?day=2027-01-15").text)) == 3
    assert listed(viewer.get("/studies?day=2027-01-17").text) == []
    assert len(listed(viewer.get("/studies?state=nonsense&day=nonsense").text)) == 3


def test_a_page_leads_to_the_next_one(viewer: Person, three: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.web.pages.studies.PAGE", 2)
    first = viewer.get("/studies").text
    (where,) = re.findall(r'href="([^"]+)" rel="next"', first)
    second = viewer.get(where.replace("&amp;", "&")).text
    assert (listed(first), listed(second)) == ([3, 2], [1])
    assert 'rel="next"' not in second


@pytest.mark.parametrize(("name", "found"), [("P2", [3, 2]), ("A1", [1]), (" A3 ", [3]), ("nobody", [])])
def test_a_patient_is_found_by_what_stands_in_no_address(
    viewer: Person, three: None, name: str, found: list[int]
) -> None:
    answer = viewer.post("/studies/search", name=name)
    assert listed(answer.text) == found
    assert answer.status_code == 200
    hrefs = " ".join(re.findall(r'(?:href|action)="([^"]*)"', answer.text))
    assert name.strip() not in hrefs


def test_no_address_of_any_page_names_a_patient(house: House, viewer: Person, three: None) -> None:
    study = studies.by_id(house.store, 1)
    for path in ("/", "/studies", "/studies/1", "/held", "/deliveries", "/reconcile"):
        hrefs = " ".join(re.findall(r'(?:href|action|src)="([^"]*)"', viewer.get(path).text))
        for secret in ("P1", "P2", "A1", "Doe", study.study_instance_uid):
            assert secret not in hrefs, path


def finish(house: House, state: JobState = JobState.DONE) -> None:
    """The routed study's job ends with findings and a result."""
    (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    image = work.instances[0].id
    found = [
        FindingRow(image, "analysed", "", "Cardiomegaly", 0.01, "ABSENT"),
        FindingRow(image, "analysed", "", "Pneumothorax", 0.83, "PRESENT"),
        FindingRow(image, "analysed", "", "no such label any more", None, "UNDETERMINED"),
    ]
    jobs.finish(house.store, work.job, state, found, [built(house.store, generate_uid())], reason="", now=house.now)


def test_a_study_tells_its_story_from_association_to_delivery(house: House, viewer: Person, three: None) -> None:
    finish(house)
    (delivery,) = deliveries.claim(house.store, "pacs", 1, now=house.now, lease=60)
    deliveries.sent(house.store, delivery, status=0, note="", now=house.now)
    text = viewer.get("/studies/1").text
    told = re.findall(r'<li class="(\w+)"><span class="time">', text)
    assert told == ["receive", "receive", "settle", "route", "report", "deliver"]
    for words in ("association of PACS (pacs) from 127.0.0.1: 1 instance", "1 of 1 images match", "pacs: sent sr"):
        assert words in text


def test_findings_stand_beside_the_limits_of_their_model_the_present_ones_first(
    house: House, viewer: Person, three: None
) -> None:
    finish(house)
    text = viewer.get("/studies/1").text
    rows = re.findall(r'<tr class="(\w+)"><th scope="row">([^<]+)</th>', text)
    assert rows == [
        ("present", "Pneumothorax"),
        ("undetermined", "no such label any more"),
        ("absent", "Cardiomegaly"),
    ]
    assert re.search(r'aria-label="83.0 %, present from \d+\.\d %"', text)
    assert 'aria-label="no score"' in text
    assert "below threshold" in text
    assert "normal" not in text.lower()


def test_a_study_whose_model_is_gone_is_shown_without_limits(house: House, viewer: Person, three: None) -> None:
    finish(house)
    with house.store.write() as connection:
        connection.exec_driver_sql("UPDATE job SET bundle = 'gone@9.9.9'")
    text = viewer.get("/studies/1").text
    assert "Pneumothorax" in text
    assert "present from" not in text


def test_what_a_header_holds_stays_text(house: House, viewer: Person, routed: Routed, tmp_path: Path) -> None:
    routed(make_image(tmp_path / "a.dcm", PatientID="<script>alert(1)</script>", AccessionNumber='"><b>'))
    for path in ("/studies", "/studies/1"):
        text = viewer.get(path).text
        assert "<script>alert" not in text
        assert "<b>" not in re.findall(r"Accession.*", text)[0]
        assert "&lt;script&gt;" in text


def test_there_is_no_study_in_other_rows(viewer: Person) -> None:
    for path in ("/studies/99", "/studies/99999999999999999999", "/studies/-1"):
        assert viewer.get(path).status_code in (404, 422)


def test_an_operator_settles_a_study_that_is_arriving(house: House, operator: Person, three: None) -> None:
    assert 'action="/studies/3/settle"' in operator.get("/studies/3").text
    answer = operator.post("/studies/3/settle")
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies/3")
    assert studies.by_id(house.store, 3).state is StudyState.SETTLED
    assert "It is settled." in operator.get("/studies/3").text
    assert "It is settled." not in operator.get("/studies/3").text
    assert operator.post("/studies/3/settle").status_code == 409


def test_an_operator_tries_again_what_was_given_up(house: House, operator: Person, three: None) -> None:
    (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    jobs.fail(house.store, work.job, "no", attempts=1, now=house.now, retry_after=1)
    assert jobs.of_study(house.store, 1)[0].state is JobState.DEAD
    operator.post("/studies/1/retry")
    assert jobs.of_study(house.store, 1)[0].state is JobState.QUEUED
    assert "1 jobs and 0 deliveries will be tried again" in operator.get("/studies/1").text


def test_an_operator_routes_again(house: House, operator: Person, three: None) -> None:
    assert operator.post("/studies/1/route").status_code == 303
    assert studies.by_id(house.store, 1).revision == 2
    assert operator.post("/studies/2/route").status_code == 409


def test_a_viewer_is_offered_nothing_to_change(viewer: Person, three: None) -> None:
    assert "/studies/1/" not in " ".join(re.findall(r'action="([^"]*)"', viewer.get("/studies/1").text))


def test_held_studies_are_shown_side_by_side_and_decided(
    house: House, operator: Person, contradicted: Callable[[], Study]
) -> None:
    study = contradicted()
    text = operator.get("/held").text
    assert re.search(r"PatientID <span.*?<td>P1</td><td>P2</td>", text, re.DOTALL)
    assert text.index("PatientName") < text.index("Modality</th>")
    assert operator.post(f"/held/{study.id}/reject").headers["location"] == "/held"
    assert studies.by_id(house.store, study.id).state is StudyState.RECEIVING
    assert "No study is held." in operator.get("/held").text
    assert operator.post(f"/held/{study.id}/accept").status_code == 409


def test_a_correction_is_accepted(house: House, operator: Person, contradicted: Callable[[], Study]) -> None:
    study = contradicted()
    operator.post(f"/held/{study.id}/accept")
    assert studies.by_id(house.store, study.id).patient_id == "P2"


def test_what_was_given_up_is_listed_with_its_reason_and_tried_again(
    house: House, operator: Person, three: None
) -> None:
    finish(house)
    (delivery,) = deliveries.claim(house.store, "pacs", 1, now=house.now, lease=60)
    deliveries.give_up(house.store, delivery, status=0xA900, reason="not taken", now=house.now)
    text = operator.get("/deliveries").text
    assert "not taken" in text
    assert listed(text) == [1]
    assert listed(operator.get("/deliveries?state=COMMITTED").text) == []
    assert listed(operator.get("/deliveries?peer=elsewhere").text) == []
    operator.post("/deliveries/retry", peer="pacs")
    assert deliveries.of_study(house.store, 1)[0].state is DeliveryState.QUEUED
    assert "1 deliveries to pacs will be tried again" in operator.get("/deliveries").text
    assert operator.post("/deliveries/retry", peer="nobody").status_code == 409


def test_the_account_of_a_day_names_each_study_that_is_not_finished(house: House, viewer: Person, three: None) -> None:
    day = viewer.get("/reconcile?day=2027-01-15").text
    assert "1 study settled" in day
    assert "chest: QUEUED" in day
    assert "None is unexplained." in day
    assert "0 studies settled" in viewer.get("/reconcile?day=2027-01-14").text
    assert viewer.get("/reconcile?day=nonsense").status_code == 200
    assert instances.of_study(house.store, 1)
