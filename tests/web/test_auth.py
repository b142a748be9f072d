"""Roles, sessions that end, and forms that must be ours, asked of every address that there is."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from house import House
from visitors import Person

from node.web.app import PAGES
from node.web.auth import FIELD, HEADER

OPEN = {"/static/{name}", "/login", "/first"}
"""What is served before anybody is known."""
ROUTES = [r for module in PAGES for r in module.router.routes if isinstance(r, APIRoute)]
CLOSED = [(method, r.path) for r in ROUTES for method in sorted(r.methods) if r.path not in OPEN]
FORMS = [path for method, path in CLOSED if method == "POST"]
NEEDED = {
    "/studies/{study_id}/retry": "operator",
    "/studies/{study_id}/settle": "operator",
    "/studies/{study_id}/route": "operator",
    "/held/{study_id}/accept": "operator",
    "/held/{study_id}/reject": "operator",
    "/deliveries/retry": "operator",
    "/peers/{name}/echo": "operator",
    "/peers/{name}/test": "operator",
    "/peers/{name}/test/stop": "operator",
    "/peers": "admin",
    "/peers/take-up": "admin",
    "/peers/{name}/remove": "admin",
    "/accounts": "admin",
    "/accounts/{account_id}/role": "admin",
    "/accounts/{account_id}/disabled": "admin",
    "/accounts/{account_id}/password": "admin",
    "/studies/search": "viewer",
    "/logout": "viewer",
}
"""Of each form the role that it needs; a new one is to be written down here."""
FIELDS = {"name": "eve", "role": "viewer", "password": "a long enough one", "disabled": "true", "peer": ""}


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "1", path)


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_nothing_is_shown_or_done_before_somebody_is_known(stranger: Person, method: str, path: str) -> None:
    answer = stranger.ask(method, filled(path), **({"data": FIELDS} if method == "POST" else {}))
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login")


def test_events_are_answered_401_where_a_page_would_lead_to_the_login(stranger: Person) -> None:
    assert stranger.get("/events?part=flow").status_code == 401


def test_every_form_has_its_role() -> None:
    assert set(FORMS) == set(NEEDED)


@pytest.mark.parametrize("path", [p for p, role in NEEDED.items() if role != "viewer"])
def test_a_viewer_changes_nothing(viewer: Person, path: str) -> None:
    answer = viewer.post(filled(path), **FIELDS)
    assert answer.status_code == 403
    assert "vera is viewer" in answer.text


@pytest.mark.parametrize("path", [p for p, role in NEEDED.items() if role == "admin"])
def test_an_operator_manages_no_accounts(operator: Person, path: str) -> None:
    assert operator.post(filled(path), **FIELDS).status_code == 403
    assert operator.get("/accounts").status_code == 403


@pytest.mark.parametrize("path", FORMS)
def test_a_form_without_its_token_is_refused(admin: Person, path: str) -> None:
    for data in (FIELDS, FIELDS | {FIELD: "0" * 64}):
        answer = admin.ask("POST", filled(path), data=data)
        assert answer.status_code == 403
        assert "not from this dashboard" in answer.text


def test_the_token_of_another_session_is_no_token(admin: Person, operator: Person) -> None:
    (theirs,) = set(re.findall(r'name="form_token" value="(\w+)"', operator.get("/").text))
    assert admin.ask("POST", "/logout", data={FIELD: theirs}).status_code == 403


def test_a_script_of_ours_sends_the_token_as_a_header(viewer: Person) -> None:
    (token,) = set(re.findall(r'name="form_token" value="(\w+)"', viewer.get("/").text))
    assert viewer.ask("POST", "/logout", headers={HEADER: token}).status_code == 303


def test_a_session_ends_when_nobody_clicks(house: House, viewer: Person) -> None:
    house.now += 59 * 60
    assert viewer.get("/studies").status_code == 200
    house.now += 59 * 60
    assert viewer.get("/studies").status_code == 200
    house.now += 61 * 60
    assert viewer.get("/studies").status_code == 303


def test_a_session_ends_after_its_hours_however_much_is_clicked(house: House, viewer: Person) -> None:
    for _ in range(23):
        house.now += 30 * 60
        assert viewer.get("/studies").status_code == 200
    house.now += 31 * 60
    assert viewer.get("/studies").status_code == 303


def test_the_navigation_shows_what_there_is_and_the_role_may_see(viewer: Person, admin: Person) -> None:
    assert 'href="/accounts"' not in viewer.get("/").text
    assert 'href="/accounts"' in admin.get("/").text


def test_every_page_is_there(app: FastAPI, admin: Person) -> None:
    pages = [path for method, path in CLOSED if method == "GET" and "{" not in path and path != "/events"]
    assert {"/", "/studies", "/held", "/deliveries", "/reconcile", "/accounts"} <= set(pages)
    for path in pages:
        answer = admin.get(path)
        assert answer.status_code == 200, path
        assert "Research use only." in answer.text or "content-disposition" in answer.headers
