"""Rows of accounts, of who is logged in or has an API token, and of logins that failed. Passwords and tokens stand here
as digests only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from node.domain import State
from node.errors import AccountError
from node.storage import schema
from node.storage.store import Store

A = schema.account
F = schema.login_failure
T = schema.api_token
W = schema.web_session


class Role(State):
    """What an account may do; each may do all that those before it may."""

    VIEWER = "viewer", "Sees everything and changes nothing."
    OPERATOR = "operator", "Also tries again, settles, routes and decides about held studies."
    ADMIN = "admin", "Also manages accounts and peers."

    def may(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True)
class Account:
    id: int
    name: str
    role: Role
    password: str
    """The digest with its parameters, as `node.admin.accounts` writes it."""
    disabled: bool
    created_at: float
    last_login_at: float | None


@dataclass(frozen=True)
class Session:
    id: int
    account: Account
    created_at: float
    seen_at: float


def _to_account(row: Row[Any]) -> Account:
    return Account(row.id, row.name, Role(row.role), row.password, row.disabled, row.created_at, row.last_login_at)


def all_of(store: Store) -> list[Account]:
    with store.read() as connection:
        return [_to_account(row) for row in connection.execute(select(A).order_by(A.c.name))]


def find(store: Store, name: str) -> Account | None:
    with store.read() as connection:
        row = connection.execute(select(A).where(A.c.name == name)).first()
        return _to_account(row) if row else None


def by_id(store: Store, account_id: int) -> Account:
    """Raises:
    AccountError: there is none.
    """
    with store.read() as connection:
        row = connection.execute(select(A).where(A.c.id == account_id)).first()
    if row is None:
        raise AccountError(f"there is no account in row {account_id}")
    return _to_account(row)


def add(store: Store, name: str, role: Role, password: str, *, first: bool = False, now: float) -> Account:
    """Make an account; `first`: only while there is none.

    Raises:
        AccountError: there is one of that name, or it would not be the first.
    """
    with store.write() as connection:
        if first and connection.execute(select(func.count()).select_from(A)).scalar_one():
            raise AccountError("there is an account already: log in, or use `overread web account`")
        if connection.execute(select(A.c.id).where(A.c.name == name)).first():
            raise AccountError(f"there is an account {name} already")
        values = {"name": name, "role": role, "password": password, "disabled": False, "created_at": now}
        return _to_account(connection.execute(insert(A).values(**values).returning(A)).one())


def change(
    store: Store,
    account: Account,
    *,
    role: Role | None = None,
    disabled: bool | None = None,
    password: str | None = None,
) -> Account:
    """Change what is given. Whoever uses the account is logged out, and its API token ends, so that nothing goes on
    with former rights.

    Raises:
        AccountError: nobody would be left who may manage accounts.
    """
    given = {"role": role, "disabled": disabled, "password": password}
    values = {key: value for key, value in given.items() if value is not None}
    with store.write() as connection:
        row = connection.execute(update(A).where(A.c.id == account.id).values(**values).returning(A)).one()
        rulers = select(func.count()).where(A.c.role == Role.ADMIN, A.c.disabled.is_(False))
        was_ruler = account.role is Role.ADMIN and not account.disabled
        if was_ruler and not connection.execute(rulers).scalar_one():
            raise AccountError(f"{account.name} is the only admin: make another one first")
        connection.execute(delete(W).where(W.c.account_id == account.id))
        connection.execute(delete(T).where(T.c.account_id == account.id))
        return _to_account(row)


def give_token(store: Store, account: Account, token_digest: str | None, *, now: float) -> bool:
    """Let programs use an account by this token, in place of its former one; None: by none any more.

    Returns:
        Whether there was a former one.
    """
    with store.write() as connection:
        had = connection.execute(delete(T).where(T.c.account_id == account.id)).rowcount > 0
        if token_digest is not None:
            values = {"account_id": account.id, "token_digest": token_digest, "created_at": now}
            connection.execute(insert(T).values(**values))
        return had


def of_token(store: Store, token_digest: str) -> Account | None:
    """Whose API token this is, unless the account was disabled."""
    query = select(A).join(T, T.c.account_id == A.c.id).where(T.c.token_digest == token_digest, A.c.disabled.is_(False))
    with store.read() as connection:
        row = connection.execute(query).first()
        return _to_account(row) if row else None


def log_in(store: Store, account: Account, token_digest: str, *, address: str, now: float) -> bool:
    """Begin a session, and forget the account's failures from this address; False: it was disabled meanwhile."""
    usable = (A.c.id == account.id, A.c.disabled.is_(False), A.c.password == account.password)
    with store.write() as connection:
        if not connection.execute(update(A).where(*usable).values(last_login_at=now)).rowcount:
            return False
        values = {"account_id": account.id, "token_digest": token_digest, "created_at": now, "seen_at": now}
        connection.execute(insert(W).values(**values))
        mine = (F.c.account_key == account_key(store, account.name), F.c.address == address)
        connection.execute(delete(F).where(*mine))
        return True


def session(store: Store, token_digest: str, *, created_after: float, seen_after: float) -> Session | None:
    """Who is logged in by this token, unless that was too long ago or the account was disabled."""
    query = select(W.c.id.label("session_id"), W.c.created_at.label("began_at"), W.c.seen_at, A)
    query = query.join(A, A.c.id == W.c.account_id).where(W.c.token_digest == token_digest, A.c.disabled.is_(False))
    with store.read() as connection:
        row = connection.execute(query.where(W.c.created_at > created_after, W.c.seen_at > seen_after)).first()
    return Session(row.session_id, _to_account(row), row.began_at, row.seen_at) if row else None


def seen(store: Store, found: Session, *, now: float) -> None:
    with store.write() as connection:
        connection.execute(update(W).where(W.c.id == found.id).values(seen_at=now))


def log_out(store: Store, token_digest: str) -> None:
    with store.write() as connection:
        connection.execute(delete(W).where(W.c.token_digest == token_digest))


def account_key(store: Store, name: str) -> str:
    """A name that somebody typed, in a form that may be kept: people type their password into the wrong field."""
    return store.log_id(f"account {name}")


@dataclass(frozen=True)
class Limits:
    """How many logins may fail under a name from one address (`here`) and from an address. From `slow_from` failures
    under a name on, from wherever, it is tried once in `slow_seconds`."""

    here: int
    address: int
    slow_from: int
    slow_seconds: float


def attempt(
    store: Store, name: str, address: str, limits: Limits, *, since: float, now: float
) -> Literal["noted", "shut out", "too soon"]:
    """Note a login that is tried, as failed until it succeeds: many at once are then counted, too.

    Returns:
        What keeps it from being tried, by the failures since then; nothing is noted then, so that whoever is shut out
        cannot use up the turns of others.
    """
    named, there = F.c.account_key == account_key(store, name), F.c.address == address
    with store.write() as connection:
        failed = partial(_count, connection, F.c.at > since)
        if failed(named, there) >= limits.here or failed(there) >= limits.address:
            return "shut out"
        just_now = F.c.at.between(now - limits.slow_seconds, now)
        if failed(named) >= limits.slow_from and failed(named, just_now):
            return "too soon"
        connection.execute(insert(F).values(account_key=account_key(store, name), address=address, at=now))
        return "noted"


def _count(connection: Connection, *where: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(F).where(*where)).scalar_one())


def forget(store: Store, *, failed_before: float, created_before: float, seen_before: float) -> None:
    """Sessions that ended by themselves, and failures that do not count any more."""
    with store.write() as connection:
        connection.execute(delete(F).where(F.c.at < failed_before))
        connection.execute(delete(W).where(or_(W.c.created_at < created_before, W.c.seen_at < seen_before)))
