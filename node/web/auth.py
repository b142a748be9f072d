"""Who asks, and may they: sessions by cookie, roles as dependencies, and the token that each form must bring back.

A handler names the role that it needs (`who: Viewer`, `Operator`, `Admin`); whatever is not GET then also needs the
form's token, so that no handler can forget it. Pages without a role are those of `pages/entry.py` and the static files.
Programs bring the API token of an account instead; it opens `/api/` only.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from node.admin import accounts
from node.storage.accounts import Account, Role
from node.web.desk import At, Desk
from node.web.door import API

SESSION, KNOCK = "overread", "overread_knock"
"""Cookies: of a session, and of a form that is filled in before there is one."""
SAFE = ("GET", "HEAD")
FIELD, HEADER = "form_token", "x-form-token"


class NotLoggedIn(Exception):
    """Nobody is logged in; a page leads to the login, anything else is answered 401."""


class Forbidden(Exception):
    """The account may not do this, or the form is not ours. Its text is for people."""


@dataclass(frozen=True)
class Visitor:
    """Who asks. `form_token` goes into each form of the answer."""

    account: Account
    form_token: str

    def may(self, role: str) -> bool:
        return self.account.role.may(Role(role))


def form_token(cookie: str) -> str:
    """What a form must bring back: made from the cookie, which no other site can read."""
    return hmac.new(cookie.encode(), b"form", hashlib.sha256).hexdigest()


async def see_token(request: Request, cookie: str) -> None:
    """A form, or a script in our page, brings the token of the cookie that comes with it.

    Raises:
        Forbidden: it does not; somebody else's page may have sent it.
    """
    given = request.headers.get(HEADER) or ""
    if not given and not request.url.path.startswith(API):
        form = await request.form()
        given = str(form.get(FIELD, ""))
    if not cookie or not hmac.compare_digest(given.encode(), form_token(cookie).encode()):
        raise Forbidden("This form is too old, or is not from this dashboard: go back, load the page anew, try again.")


def visitor(desk: Desk, cookie: str, *, touch: bool = True) -> Visitor | None:
    """Who is logged in by this cookie. Asks the database: not for the event loop."""
    rules = desk.settings.web
    found = accounts.session(
        desk.store,
        cookie,
        hours=rules.session_hours,
        idle_minutes=rules.idle_minutes,
        now=desk.clock(),
        touch=touch,
    )
    return Visitor(found.account, form_token(cookie)) if found else None


def program(desk: Desk, authorization: str) -> Visitor | None:
    """Whose API token a program brings. It needs no form's token: a browser does not bring one by itself."""
    scheme, _, token = authorization.partition(" ")
    account = accounts.of_token(desk.store, token.strip()) if scheme.lower() == "bearer" else None
    return Visitor(account, "") if account else None


async def _known(request: Request, desk: At) -> Visitor:
    if request.url.path.startswith(API) and "authorization" in request.headers:  # where the door asks for no name
        found = await run_in_threadpool(program, desk, request.headers["authorization"])
    else:
        found = await _of_session(request, desk)
    if found is None:
        raise NotLoggedIn
    request.scope["overread.account"] = found.account.name
    return found


async def _of_session(request: Request, desk: Desk) -> Visitor | None:
    cookie = request.cookies.get(SESSION, "")
    found = await run_in_threadpool(visitor, desk, cookie) if cookie else None
    if found and request.method not in SAFE:
        await see_token(request, cookie)
    return found


class _Needs:
    """A dependency: somebody is logged in who has at least this role."""

    def __init__(self, role: Role) -> None:
        self._role = role

    def __call__(self, who: Annotated[Visitor, Depends(_known)]) -> Visitor:
        if not who.account.role.may(self._role):
            raise Forbidden(f"This needs the role {self._role}; {who.account.name} is {who.account.role}.")
        return who


Viewer = Annotated[Visitor, Depends(_Needs(Role.VIEWER))]
Operator = Annotated[Visitor, Depends(_Needs(Role.OPERATOR))]
Admin = Annotated[Visitor, Depends(_Needs(Role.ADMIN))]


def let_in(response: Response, desk: Desk, token: str) -> None:
    """The cookie of a new session; it ends with the browser, at the latest when the session does."""
    keep(response, desk, SESSION, token)
    response.delete_cookie(KNOCK, path="/")


def keep(response: Response, desk: Desk, name: str, value: str) -> None:
    secure = desk.settings.web.encrypted
    response.set_cookie(name, value, path="/", httponly=True, samesite="strict", secure=secure)


def address(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "unknown"


def knock() -> str:
    """The cookie of a visitor who is not known yet, so that the login form has a token too."""
    return secrets.token_urlsafe(16)


def login_url(request: Request) -> str:
    """The login, and afterwards the page that was asked for; paths hold row numbers only."""
    return f"/login?next={quote(request.url.path)}" if request.method in SAFE else "/login"


def local(path: str) -> str:
    """Where to go after the login: a page of ours, wherever a link wanted to lead."""
    own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if own else "/"
