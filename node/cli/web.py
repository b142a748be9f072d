"""Commands about the dashboard: web token, and the accounts of those who use it, people and programs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from node.admin import accounts
from node.cli.printing import UNUSABLE, Config, Json, app, fail, load, moment, out, print_json
from node.errors import AccountError
from node.service import open_parts
from node.storage import accounts as rows
from node.storage.accounts import Account, Role
from node.storage.store import Store

web = typer.Typer(no_args_is_help=True, help="The dashboard: its first token and its accounts.")
account = typer.Typer(
    no_args_is_help=True, help="Who may use the dashboard. Passwords are asked for, or read from a pipe."
)
app.add_typer(web, name="web")
web.add_typer(account, name="account")

Name = Annotated[str, typer.Argument(metavar="NAME", help="of the account")]


@web.command()
def token(config: Config = None) -> None:
    """The token that makes the first account in the browser. Once there is an account there is none."""
    settings, _ = load(config)
    with open_parts(settings) as parts:
        found = accounts.first_token(parts.store, settings.node.data_dir)
    if found is None:
        fail("there are accounts already: `overread web account password NAME` sets a new password", UNUSABLE)
    out.print(f"open {settings.web.address}/first and give this token:", markup=False)
    out.print(found, markup=False)


@account.command("list")
def account_list(config: Config = None, as_json: Json = False) -> None:
    """Every account, its role, and when it was last used."""
    with open_parts(load(config)[0]) as parts:
        found = rows.all_of(parts.store)
    table = Table("name", "role", "last login", "", box=None)
    for one in found:
        if as_json:
            said = {"name": one.name, "role": one.role, "disabled": one.disabled}
            print_json(said | {"created_at": one.created_at, "last_login_at": one.last_login_at})
        table.add_row(one.name, one.role, moment(one.last_login_at) or "never", "disabled" if one.disabled else "")
    if not as_json:
        out.print(table)


@account.command("add")
def account_add(
    name: Name,
    role: Annotated[Role, typer.Option(help="what the account may do")] = Role.VIEWER,
    config: Config = None,
) -> None:
    """Make an account."""
    with open_parts(load(config)[0]) as parts:
        made = accounts.add(parts.store, name, role, _password(), now=parts.store.now())
    out.print(f"{made.name} may log in as {made.role}", markup=False)


@account.command("disable")
def account_disable(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="it may log in again")] = False,
    config: Config = None,
) -> None:
    """Log an account out and let nobody log in with it."""
    with open_parts(load(config)[0]) as parts:
        rows.change(parts.store, _known(parts.store, name), disabled=not undo)
    out.print(
        f"{name} may log in again" if undo else f"{name} was logged out and may not log in any more", markup=False
    )


@account.command("password")
def account_password(name: Name, config: Config = None) -> None:
    """Set a new password, and log the account out."""
    with open_parts(load(config)[0]) as parts:
        accounts.set_password(parts.store, _known(parts.store, name), _password())
    out.print(f"{name} has a new password", markup=False)


@account.command("token")
def account_token(
    name: Name,
    revoke: Annotated[bool, typer.Option("--revoke", help="end it, and make none")] = False,
    config: Config = None,
) -> None:
    """Make an API token for programs, in place of the former one. It is shown once, and may what the account may."""
    with open_parts(load(config)[0]) as parts:
        found = _known(parts.store, name)
        if revoke:
            had = rows.give_token(parts.store, found, None, now=parts.store.now())
            out.print(f"{name} has no API token any more" if had else f"{name} had no API token", markup=False)
            return
        made = accounts.give_token(parts.store, found, now=parts.store.now())
    out.print(made, markup=False, soft_wrap=True)


def _known(store: Store, name: str) -> Account:
    found = rows.find(store, name)
    if found is None:
        have = ", ".join(one.name for one in rows.all_of(store)) or "none"
        raise AccountError(f"there is no account {name} (have: {have})")
    return found


def _password() -> str:
    """Never an argument: those are seen by everybody on the machine."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")
