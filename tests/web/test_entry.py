"""Before anybody is known: the first account, the login, the way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from databases_made import everything_in
from house import House
from visitors import PASSWORD, Person

from node.admin import accounts
from node.storage import accounts as rows
from node.storage.accounts import Role
from node.web.auth import FIELD, KNOCK, SESSION


@pytest.fixture
def ada(house: House, digest: str) -> rows.Account:
    return rows.add(house.store, "ada", Role.ADMIN, digest, now=house.now)


def text_of(answer: str) -> str:
    return re.sub(r'value="\w*"', "", answer)


def test_the_first_account_is_made_with_the_token_of_the_log_and_is_an_admin(house: House, stranger: Person) -> None:
    token = accounts.first_token(house.store, house.folder) or ""
    assert stranger.get("/login").headers["location"] == "/first"
    made = stranger.fill("/first", token=token, name="ada", password=PASSWORD)
    assert (made.status_code, made.headers["location"]) == (303, "/login")
    (account,) = rows.all_of(house.store)
    assert (account.name, account.role) == ("ada", Role.ADMIN)
    assert PASSWORD not in account.password
    assert stranger.fill("/login", name="ada", password=PASSWORD).headers["location"] == "/"
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize("token", ["", "guessed", "x" * 32])
def test_another_token_makes_no_account(house: House, stranger: Person, token: str) -> None:
    accounts.first_token(house.store, house.folder)
    answer = stranger.fill("/first", token=token or " ", name="eve", password=PASSWORD)
    assert answer.status_code == 403
    assert "overread web token" in answer.text
    assert rows.all_of(house.store) == []


def test_the_token_works_once(house: House, stranger: Person, ada: rows.Account) -> None:
    assert accounts.first_token(house.store, house.folder) is None
    assert stranger.get("/first").headers["location"] == "/login"
    stranger.get("/login")
    form = {FIELD: re.findall(r'value="(\w{64})"', stranger.get("/login").text)[0]}
    answer = stranger.ask("POST", "/first", data=form | {"token": "x", "name": "eve", "password": PASSWORD})
    assert answer.status_code == 403
    assert rows.all_of(house.store) == [ada]


@pytest.mark.parametrize(
    ("name", "password", "why"),
    [("ada", "short", "12 to 256 characters"), ("Ada Lovelace", PASSWORD, "1 to 64 of a-z"), ("ada", "a" * 257, "256")],
)
def test_a_name_or_password_that_is_not_usable_is_refused(
    house: House, stranger: Person, name: str, password: str, why: str
) -> None:
    token = accounts.first_token(house.store, house.folder) or ""
    answer = stranger.fill("/first", token=token, name=name, password=password)
    assert why in answer.text
    assert rows.all_of(house.store) == []


def test_an_unknown_name_and_a_wrong_password_get_the_same_answer(stranger: Person, ada: rows.Account) -> None:
    wrong = stranger.fill("/login", name="ada", password="wrong horse battery")
    unknown = stranger.fill("/login", name="eve", password="wrong horse battery")
    assert (wrong.status_code, unknown.status_code) == (401, 401)
    assert text_of(wrong.text) == text_of(unknown.text)
    assert "The name or the password is wrong." in wrong.text


def test_a_disabled_account_is_as_good_as_an_unknown_one(house: House, stranger: Person, ada: rows.Account) -> None:
    rows.add(house.store, "zoe", Role.ADMIN, ada.password, now=house.now)
    rows.change(house.store, ada, disabled=True)
    assert stranger.fill("/login", name="ada", password=PASSWORD).status_code == 401


def test_the_login_leads_to_the_page_that_was_asked_for(stranger: Person, ada: rows.Account) -> None:
    where = stranger.get("/studies/7").headers["location"]
    assert where == "/login?next=/studies/7"
    assert stranger.fill("/login", name="ada", password=PASSWORD, next="/studies/7").headers["location"] == "/studies/7"


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_the_login_leads_nowhere_else(stranger: Person, ada: rows.Account, next: str) -> None:
    assert stranger.fill("/login", name="ada", password=PASSWORD, next=next).headers["location"] == "/"


def test_the_cookie_of_a_session_is_for_this_site_and_no_script(stranger: Person, ada: rows.Account) -> None:
    answer = stranger.fill("/login", name="ada", password=PASSWORD)
    (cookie,) = [c for c in answer.headers.get_list("set-cookie") if c.startswith(f"{SESSION}=")]
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert attributes == {"httponly", "path=/", "samesite=strict"}


def test_the_token_of_a_session_is_kept_as_a_digest_only(house: House, stranger: Person, ada: rows.Account) -> None:
    stranger.fill("/login", name="ada", password=PASSWORD)
    token = stranger.cookies[SESSION]
    assert token.encode() not in everything_in(house.store)


def test_a_login_form_that_is_not_ours_is_refused(stranger: Person, ada: rows.Account) -> None:
    answer = stranger.ask("POST", "/login", data={"name": "ada", "password": PASSWORD})
    assert answer.status_code == 403
    stranger.get("/login")
    assert stranger.cookies.get(KNOCK)
    answer = stranger.ask("POST", "/login", data={FIELD: "0" * 64, "name": "ada", "password": PASSWORD})
    assert answer.status_code == 403


def test_too_many_failures_under_a_name_stop_logins_for_a_while(
    house: House, stranger: Person, ada: rows.Account
) -> None:
    for _ in range(accounts.PER_ACCOUNT):
        accounts_fail(house, "ada", "127.0.0.1")
    assert stranger.fill("/login", name="ada", password=PASSWORD).status_code == 429
    house.now += accounts.WINDOW_SECONDS + 1
    assert stranger.fill("/login", name="ada", password=PASSWORD).status_code == 303


def test_failures_elsewhere_make_a_name_slow_and_shut_nobody_out(
    house: House, stranger: Person, ada: rows.Account
) -> None:
    for n in range(accounts.LIMITS.slow_from):
        accounts_fail(house, "ada", f"192.0.2.{n}")
    answer = stranger.fill("/login", name="ada", password=PASSWORD)
    assert (answer.status_code, "in a few seconds" in answer.text) == (429, True)
    house.now += accounts.LIMITS.slow_seconds + 1
    assert stranger.fill("/login", name="ada", password=PASSWORD).status_code == 303


def test_too_many_failures_from_an_address_stop_logins_under_any_name(
    house: House, stranger: Person, ada: rows.Account
) -> None:
    for n in range(accounts.PER_ADDRESS):
        accounts_fail(house, f"guess{n}", "127.0.0.1")
    answer = stranger.fill("/login", name="ada", password=PASSWORD)
    assert answer.status_code == 429
    assert "quarter of an hour" in answer.text


def accounts_fail(house: House, name: str, address: str) -> None:
    no_limits = rows.Limits(here=99, address=99, slow_from=99, slow_seconds=0)
    assert rows.attempt(house.store, name, address, no_limits, since=0, now=house.now) == "noted"


def test_a_failure_is_counted_without_the_name_that_was_typed(house: House, stranger: Person) -> None:
    rows.add(house.store, "ada", Role.ADMIN, accounts.NOBODY, now=house.now)
    stranger.fill("/login", name="my secret password", password="x")
    asked = {"since": 0.0, "now": house.now}
    rest: dict[str, Any] = {"slow_from": 99, "slow_seconds": 0}
    by_name, by_address = rows.Limits(here=1, address=9, **rest), rows.Limits(here=9, address=1, **rest)
    answers = [
        rows.attempt(house.store, "my secret password", "127.0.0.1", by_name, **asked),
        rows.attempt(house.store, "another", "127.0.0.1", by_address, **asked),
    ]
    assert answers == ["shut out", "shut out"]
    assert b"my secret password" not in everything_in(house.store)


def test_logging_out_ends_the_session_and_not_only_the_cookie(viewer: Person) -> None:
    token = viewer.cookies[SESSION]
    assert viewer.post("/logout").headers["location"] == "/login"
    viewer.cookies.set(SESSION, token, domain="127.0.0.1")
    assert viewer.get("/").headers["location"] == "/login?next=/"


@pytest.mark.parametrize("what", ["role", "disabled", "password"])
def test_a_changed_account_is_logged_out(
    house: House, log_in: Callable[[str, Role], Person], admin: Person, what: str
) -> None:
    vera = log_in("vera", Role.VIEWER)
    assert vera.get("/").status_code == 200
    row = rows.find(house.store, "vera")
    assert row is not None
    value = {"role": "operator", "disabled": "true", "password": "another good sentence"}[what]
    assert admin.post(f"/accounts/{row.id}/{what}", **{what: value}).status_code == 303
    assert vera.get("/").status_code == 303
