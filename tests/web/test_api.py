"""The API: what programs may ask, with which token, and that every operation keeps to its description."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from house import House, make_image
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from pydicom.uid import generate_uid
from rows import built
from visitors import Person, serving

from config.web import Web
from node.admin import accounts
from node.domain import FindingRow, JobState, Study
from node.network.orthanc import free_port
from node.storage import accounts as rows
from node.storage import echoes, jobs, queue, studies
from node.storage.accounts import Role
from node.storage.echoes import Echo
from node.web import api
from node.web.auth import HEADER, SESSION, form_token

Ask = Callable[..., Any]
OPERATIONS = [
    (method.upper(), path)
    for path, said in api.description()["paths"].items()
    for method in said
    if method != "parameters"
]
NEEDED = {
    "/api/studies/{study_id}/retry",
    "/api/studies/{study_id}/settle",
    "/api/studies/{study_id}/route",
    "/api/held/{study_id}/accept",
    "/api/held/{study_id}/reject",
    "/api/peers/{name}/echo",
    "/api/deliveries/retry",
}
"""What changes something, and therefore needs an operator."""


def filled(path: str) -> str:
    return path.replace("{study_id}", "1").replace("{name}", "pacs")


@pytest.fixture
def content(house: House, contradicted: Callable[[], Study], routed: Callable[[Path], Study], tmp_path: Path) -> None:
    """A held study, one that was read and delivered, one that is arriving, and a peer that answered."""
    contradicted()
    routed(make_image(tmp_path / "read.dcm", PatientID="P3", AccessionNumber="A3"))
    works = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    for work in works:
        image = work.instances[0].id
        found = [
            FindingRow(image, "analysed", "", "Pneumothorax", 0.83, "PRESENT"),
            FindingRow(image, "analysed", "", "Cardiomegaly", None, "UNDETERMINED"),
        ]
        made = [built(house.store, generate_uid())]
        jobs.finish(house.store, work.job, JobState.DONE, found, made, reason="", now=house.now)
    house.receive(make_image(tmp_path / "new.dcm", PatientID="P4", AccessionNumber="A4"))
    echoes.remember(house.store, Echo("pacs", house.now - 60, True, 0.004))


@pytest.fixture
def token(house: House, digest: str) -> Callable[[str, Role], str]:
    def make(name: str, role: Role) -> str:
        account = rows.find(house.store, name) or rows.add(house.store, name, role, digest, now=house.now)
        return accounts.give_token(house.store, account, now=house.now)

    return make


@pytest.fixture
def program(stranger: Person, token: Callable[[str, Role], str]) -> Ask:
    """Somebody's program; it brings a token and no cookie."""

    def ask(method: str, path: str, role: Role = Role.VIEWER, **more: str) -> Any:
        headers = {"Authorization": f"Bearer {token(f'program-{role}', role)}"} | more
        return stranger.ask(method, path, headers=headers)

    return ask


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_without_a_token_nothing_is_told_or_done(stranger: Person, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer overread_guessed"}, {"Authorization": "Basic YTpi"}):
        answer = stranger.ask(method, filled(path), headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json() == {"detail": "Log in first, or bring an API token."}


def test_whatever_changes_something_needs_an_operator(program: Ask) -> None:
    assert {path for method, path in OPERATIONS if method == "POST"} == NEEDED
    for path in NEEDED:
        answer = program("POST", filled(path))
        assert (answer.status_code, "program-viewer is viewer" in answer.json()["detail"]) == (403, True)


def test_a_study_is_told_from_its_association_to_its_results(content: None, program: Ask) -> None:
    listed = program("GET", "/api/studies?state=ROUTED").json()
    assert [one["patient_id"] for one in listed["studies"]] == ["P3"]
    told = program("GET", f"/api/studies/{listed['studies'][0]['row']}").json()
    assert [came["origin"]["calling_ae_title"] for came in told["associations"]] == ["PACS"]
    assert told["routes"] == [{"route": "chest", "instances": 1, "reason": "1 of 1 images match"}]
    (run,) = told["runs"]
    assert (run["job"]["state"], run["job"]["priority"]) == ("DONE", "ROUTINE")
    assert [(f["name"], f["score"], f["presence"]) for f in run["images"][0]["findings"]] == [
        ("Pneumothorax", 0.83, "PRESENT"),
        ("Cardiomegaly", None, "UNDETERMINED"),
    ]
    assert [d["result_id"] for d in told["deliveries"]] == [r["row"] for r in run["results"]]
    assert "path" not in run["results"][0]


def test_studies_come_in_pages(content: None, program: Ask) -> None:
    first = program("GET", "/api/studies?limit=2").json()
    second = program("GET", f"/api/studies?limit=2&before={first['next_before']}").json()
    seen = [one["row"] for page in (first, second) for one in page["studies"]]
    assert len(set(seen)) == len(seen) == 3
    assert second["next_before"] is None
    wanted = ("2027-01-15", "2027-01-17", "0001-01-01")
    days = [program("GET", f"/api/studies?day={day}").json()["studies"] for day in wanted]
    assert [len(found) for found in days] == [3, 0, 0]


def test_what_is_held_is_decided(house: House, content: None, program: Ask) -> None:
    (held,) = program("GET", "/api/held").json()
    assert {d["attribute"]: (d["was"], d["came"]) for d in held["contradictions"][0]["differences"] if d["differs"]}[
        "PatientID"
    ] == ("P1", "P2")
    row = held["study"]["row"]
    decided = program("POST", f"/api/held/{row}/accept", Role.OPERATOR).json()
    assert (decided["instances"], decided["study"]["patient_id"]) == (1, "P2")
    again = program("POST", f"/api/held/{row}/reject", Role.OPERATOR)
    assert (again.status_code, "not held" in again.json()["detail"] or "HELD" in again.json()["detail"]) == (409, True)


def test_an_operator_s_program_settles_and_tries_again(house: House, content: None, program: Ask) -> None:
    arriving = program("GET", "/api/studies?state=RECEIVING").json()["studies"][0]["row"]
    settled = program("POST", f"/api/studies/{arriving}/settle", Role.OPERATOR).json()
    assert (settled["new"], settled["study"]["state"]) == (True, "SETTLED")
    assert program("POST", f"/api/studies/{arriving}/settle", Role.OPERATOR).status_code == 409
    assert program("POST", "/api/studies/2/route", Role.OPERATOR).json()["revision"] == 2
    assert program("POST", "/api/deliveries/retry?peer=pacs", Role.OPERATOR).json() == {
        "jobs": 0,
        "deliveries": 1,
        "proofs": 0,
    }
    assert program("POST", "/api/deliveries/retry?peer=nobody", Role.OPERATOR).status_code == 404
    echo = program("POST", "/api/peers/pacs/echo", Role.OPERATOR).json()
    assert (echo["answered"], "nothing listens" in echo["error"]) == (False, True)
    assert studies.by_id(house.store, 2).revision == 2


def test_the_node_its_peers_models_and_settings_are_told(content: None, program: Ask) -> None:
    status = program("GET", "/api/status").json()
    assert status["counts"]["study"] == {"HELD": 1, "RECEIVING": 1, "ROUTED": 1}
    assert program("GET", "/api/peers").json()[0]["echo"]["answered"]
    (model,) = (one for one in program("GET", "/api/models").json() if one["uses"])
    assert model["uses"] == [{"route": "chest", "mode": "live", "deliver_to": ["pacs"]}]
    assert model["bundle"]["ref"] == "chest-findings@1.0.0"
    assert {"name", "threshold"} <= model["bundle"]["labels"][0].keys()
    parts = program("GET", "/api/settings").json()
    assert [p["name"] for p in parts if p["section"] == "route"] == ["chest"]
    assert [d["state"] for d in program("GET", "/api/deliveries").json()["deliveries"]] == ["QUEUED"]


def test_a_token_ends_with_the_next_one_and_with_any_change(
    house: House, stranger: Person, token: Callable[[str, Role], str]
) -> None:
    def status(given: str) -> int:
        return stranger.get("/api/status", Authorization=f"Bearer {given}").status_code

    former = token("robot", Role.OPERATOR)
    assert status(former) == 200
    latter = token("robot", Role.OPERATOR)
    assert (status(former), status(latter)) == (401, 200)
    account = rows.find(house.store, "robot")
    assert account is not None
    rows.change(house.store, account, role=Role.VIEWER)
    assert status(latter) == 401
    last = token("robot", Role.VIEWER)
    rows.change(house.store, account, disabled=True)
    assert status(last) == 401


def test_a_token_opens_no_page_and_is_not_kept(
    house: House, stranger: Person, token: Callable[[str, Role], str]
) -> None:
    given = token("robot", Role.ADMIN)
    assert stranger.get("/accounts", Authorization=f"Bearer {given}").status_code == 303
    dump = "\n".join(house.store.engine.raw_connection().driver_connection.iterdump())  # type: ignore[union-attr]
    assert given.startswith("overread_") and given not in dump


def test_a_script_of_a_page_brings_the_form_s_token_in_a_header(content: None, operator: Person) -> None:
    assert operator.get("/api/status").status_code == 200
    path = "/api/deliveries/retry"
    assert operator.ask("POST", path).status_code == 403
    assert operator.post(path).status_code == 403  # a form of a page is no script
    header = {HEADER: form_token(operator.cookies[SESSION])}
    assert operator.ask("POST", path, headers=header).status_code == 200
    foreign = header | {"Sec-Fetch-Site": "cross-site"}
    assert operator.ask("POST", path, headers=foreign).status_code == 403


def test_a_program_may_use_any_name_a_cookie_may_not(viewer: Person, program: Ask) -> None:
    assert program("GET", "/api/status", Host="overread:8090").status_code == 200
    assert viewer.get("/api/status", Host="overread:8090").status_code == 421
    assert viewer.get("/api/status", Host="overread:8090", Authorization="").status_code == 401


def test_errors_are_json(program: Ask, viewer: Person) -> None:
    for path, status in (("/api/nothing", 404), ("/api/studies/99", 404), ("/api/studies/x", 422)):
        answer = viewer.get(path)
        assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    answer = viewer.ask("DELETE", "/api/status")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_the_description_needs_a_token_and_names_no_page(program: Ask, stranger: Person) -> None:
    assert stranger.get("/api/openapi.json").status_code == 401
    told = program("GET", "/api/openapi.json").json()
    assert told == api.description()
    assert all(path.startswith("/api/") for path in told["paths"])
    for path, said in told["paths"].items():
        for method, operation in said.items():
            assert operation["security"] == [{"token": []}, {"session": []}]
            assert operation["description"]
            wanted = {"401", "422", "503"} | ({"403", "404", "409"} if method == "post" else set())
            assert wanted <= operation["responses"].keys(), path


DESCRIBED = schemathesis.openapi.from_dict(api.description())


@pytest.fixture
def served(app: FastAPI, content: None) -> Iterator[str]:
    rules = Web(port=free_port())
    with serving(app, rules):
        yield rules.address


@pytest.mark.slow
@DESCRIBED.parametrize()
@hypothesis_settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    # one node for all examples of an operation: what they do to it is part of the test
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_keeps_to_its_description(
    case: schemathesis.Case, served: str, token: Callable[[str, Role], str], house: House
) -> None:
    if not hasattr(house, "api_token"):
        house.api_token = token("robot", Role.OPERATOR)  # type: ignore[attr-defined]
    headers = {"Authorization": f"Bearer {house.api_token}"}  # type: ignore[attr-defined]
    case.call_and_validate(base_url=served, headers=headers)
