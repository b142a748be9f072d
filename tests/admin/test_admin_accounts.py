"""Accounts: passwords as digests, rights that end at once, and always somebody who rules."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from databases_made import place

from node.admin import accounts
from node.errors import AccountError
from node.storage import accounts as rows
from node.storage.accounts import Role
from node.storage.store import Store

NOW = 1_800_000_000.0
PASSWORD = "correct horse battery"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(place(tmp_path), tmp_path / "spool")
    made.open()
    yield made
    made.close()


def test_a_digest_says_how_it_was_made_and_is_another_each_time() -> None:
    one, two = accounts.digest(PASSWORD), accounts.digest(PASSWORD)
    assert one.split("$")[:4] == ["scrypt", "32768", "8", "3"]
    assert one != two
    assert accounts.matches(PASSWORD, one)
    assert not accounts.matches(PASSWORD + " ", one)
    assert not accounts.matches("", accounts.NOBODY)


def test_a_digest_of_other_parameters_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "COST", 2**10)
    old = accounts.digest(PASSWORD)
    monkeypatch.undo()
    assert accounts.matches(PASSWORD, old)


def test_the_first_token_is_for_its_owner_only_and_stays_the_same(store: Store, tmp_path: Path) -> None:
    found = {accounts.first_token(store, tmp_path) for _ in range(3)}
    (token,) = found
    assert token and len(token) >= 32
    assert stat.S_IMODE((tmp_path / "run" / "web.token").stat().st_mode) == 0o600
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["web.token"]


def test_the_token_is_gone_once_there_is_an_account(store: Store, tmp_path: Path) -> None:
    token = accounts.first_token(store, tmp_path) or ""
    accounts.add_first(store, tmp_path, f" {token}\n", "ada", PASSWORD, now=NOW)
    assert not (tmp_path / "run" / "web.token").exists()
    with pytest.raises(accounts.Refused):
        accounts.add_first(store, tmp_path, token, "eve", PASSWORD, now=NOW)


def test_of_many_who_know_the_token_one_makes_the_account(store: Store, tmp_path: Path) -> None:
    token = accounts.first_token(store, tmp_path) or ""
    made: list[str] = []

    def attempt(n: int) -> None:
        try:
            made.append(accounts.add_first(store, tmp_path, token, f"ada{n}", PASSWORD, now=NOW).name)
        except AccountError:
            return

    threads = [threading.Thread(target=attempt, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a.name for a in rows.all_of(store)] == made
    assert len(made) == 1


@pytest.mark.parametrize("change", [{"role": Role.VIEWER}, {"disabled": True}])
def test_there_is_always_an_admin(store: Store, change: dict[str, Any]) -> None:
    ada = rows.add(store, "ada", Role.ADMIN, accounts.NOBODY, now=NOW)
    with pytest.raises(AccountError, match="ada is the only admin"):
        rows.change(store, ada, **change)
    assert rows.by_id(store, ada.id) == ada
    rows.add(store, "eve", Role.ADMIN, accounts.NOBODY, now=NOW)
    rows.change(store, ada, **change)


def test_a_name_is_given_once(store: Store) -> None:
    rows.add(store, "ada", Role.ADMIN, accounts.NOBODY, now=NOW)
    with pytest.raises(AccountError, match="there is an account ada already"):
        rows.add(store, "ada", Role.VIEWER, accounts.NOBODY, now=NOW)


def test_each_role_may_what_those_before_it_may() -> None:
    table = [[role.may(needed) for needed in Role] for role in Role]
    assert table == [[True, False, False], [True, True, False], [True, True, True]]


def test_what_ended_is_forgotten(store: Store) -> None:
    ada = rows.add(store, "ada", Role.ADMIN, accounts.digest(PASSWORD), now=NOW)
    token = accounts.log_in(store, "ada", PASSWORD, address="x", now=NOW)
    with pytest.raises(accounts.Refused):
        accounts.log_in(store, "ada", "wrong", address="x", now=NOW)
    asked = {"hours": 1.0, "idle_minutes": 30.0}
    found = accounts.session(store, token, **asked, now=NOW + 60, touch=False)
    assert found is not None and found.account.id == ada.id
    accounts.forget(store, **asked, now=NOW + 3601)
    assert accounts.session(store, token, hours=99, idle_minutes=9999, now=NOW + 3601, touch=False) is None
    once = rows.Limits(here=1, address=1, slow_from=1, slow_seconds=5)
    assert rows.attempt(store, "ada", "x", once, since=0, now=NOW) == "noted"


def test_a_login_that_succeeds_is_no_failure_and_many_at_once_are_counted(store: Store) -> None:
    rows.add(store, "ada", Role.ADMIN, accounts.digest(PASSWORD), now=NOW)
    for _ in range(accounts.PER_ACCOUNT + 1):
        accounts.log_in(store, "ada", PASSWORD, address="x", now=NOW)
    refused: list[str] = []

    def guess() -> None:
        try:
            accounts.log_in(store, "ada", "wrong", address="x", now=NOW)
        except AccountError as error:
            refused.append(type(error).__name__)

    threads = [threading.Thread(target=guess) for _ in range(accounts.PER_ACCOUNT + 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(refused) == ["Refused"] * accounts.PER_ACCOUNT + ["TooMany"] * 3


def test_nobody_is_shut_out_by_what_fails_elsewhere(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "COST", 2**10)
    monkeypatch.setattr(accounts, "NOBODY", accounts.digest(PASSWORD))
    rows.add(store, "ada", Role.ADMIN, accounts.digest(PASSWORD), now=NOW)
    tries = [("10.0.0.1", accounts.PER_ACCOUNT), ("10.0.0.2", accounts.PER_ACCOUNT), ("10.0.0.3", 0)]
    for address, count in tries:
        for _ in range(count):
            with pytest.raises(accounts.Refused):
                accounts.log_in(store, "ada", "wrong", address=address, now=NOW)
        if count:
            with pytest.raises(accounts.TooMany):
                accounts.log_in(store, "ada", PASSWORD, address=address, now=NOW)
    with pytest.raises(accounts.TooSoon):
        accounts.log_in(store, "ada", PASSWORD, address="10.9.9.9", now=NOW + 4)
    with pytest.raises(accounts.TooMany):
        accounts.log_in(store, "ada", "wrong", address="10.0.0.1", now=NOW + 5)
    assert accounts.log_in(store, "ada", PASSWORD, address="10.9.9.9", now=NOW + 6)


def test_tries_from_everywhere_take_turns(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "NOBODY", accounts.NOBODY.replace("$32768$", "$1024$"))
    outcomes: list[str] = []
    for n in range(accounts.LIMITS.slow_from + 11):
        try:
            accounts.log_in(store, "eve", "wrong", address=f"10.1.0.{n}", now=NOW + n)
        except AccountError as error:
            outcomes.append(type(error).__name__)
        else:
            raise AssertionError("nobody has this name")
    slow = ["TooSoon"] * 5
    assert outcomes == ["Refused"] * accounts.LIMITS.slow_from + slow + ["Refused"] + slow
