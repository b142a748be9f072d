"""`overread web`: the first token, and accounts without a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from config.settings import Settings
from node.admin import accounts
from node.cli import app
from node.errors import AccountError
from node.service import open_parts
from node.storage import accounts as rows

PASSWORD = "correct horse battery"
Overread = Callable[..., Result]


def piped(file: Path, *arguments: str) -> Result:
    command = ["web", "account", *arguments, "--config", str(file)]
    return CliRunner().invoke(app, command, input=f"{PASSWORD}\n", catch_exceptions=False)


def test_the_token_is_shown_until_there_is_an_account(overread: Overread, file: Path) -> None:
    shown = overread("web", "token").stdout.split("\n")
    assert shown[0] == "open http://127.0.0.1:8090/first and give this token:"
    assert shown[1] == (file.parent / "data" / "run" / "web.token").read_text()
    assert piped(file, "add", "ada", "--role", "admin").stdout == "ada may log in as admin\n"
    after = overread("web", "token")
    assert (after.exit_code, "there are accounts already" in after.stderr) == (2, True)


def test_accounts_are_listed_without_their_passwords(overread: Overread, file: Path) -> None:
    piped(file, "add", "ada", "--role", "admin")
    piped(file, "add", "vera")
    lines = [json.loads(line) for line in overread("web", "account", "list", "--json").stdout.splitlines()]
    assert [(one["name"], one["role"], one["disabled"]) for one in lines] == [
        ("ada", "admin", False),
        ("vera", "viewer", False),
    ]
    assert "scrypt" not in overread("web", "account", "list", "--json").stdout
    assert "never" in overread("web", "account", "list").stdout


def test_an_account_is_disabled_and_gets_a_new_password(overread: Overread, file: Path) -> None:
    piped(file, "add", "ada", "--role", "admin")
    piped(file, "add", "vera")
    assert "may not log in" in overread("web", "account", "disable", "vera").stdout
    assert "may log in again" in overread("web", "account", "disable", "vera", "--undo").stdout
    assert piped(file, "password", "vera").stdout == "vera has a new password\n"
    with open_parts(Settings.load(file)) as parts:
        account = rows.find(parts.store, "vera")
        assert account is not None
        assert not account.disabled
        assert accounts.matches(PASSWORD, account.password)


def test_a_token_for_programs_is_shown_once_and_revoked(overread: Overread, file: Path) -> None:
    piped(file, "add", "robot", "--role", "operator")

    def whose(token: str) -> str:
        with open_parts(Settings.load(file)) as parts:
            account = accounts.of_token(parts.store, token)
        return account.name if account else ""

    first, second = (overread("web", "account", "token", "robot").stdout.strip() for _ in range(2))
    assert (whose(first), whose(second)) == ("", "robot")
    assert second not in overread("web", "account", "list", "--json").stdout
    assert overread("web", "account", "token", "robot", "--revoke").stdout == "robot has no API token any more\n"
    assert overread("web", "account", "token", "robot", "--revoke").stdout == "robot had no API token\n"
    assert whose(second) == ""
    overread("web", "account", "disable", "robot")
    with pytest.raises(AccountError, match=r"^robot is disabled: `overread web account disable robot --undo` first$"):
        overread("web", "account", "token", "robot")


def test_an_account_that_is_not_there_is_named_with_those_that_are(overread: Overread, file: Path) -> None:
    piped(file, "add", "ada", "--role", "admin")
    with pytest.raises(AccountError, match=r"there is no account eve \(have: ada\)"):
        overread("web", "account", "disable", "eve")
