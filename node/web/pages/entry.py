"""The pages before anybody is known: static files, the first account, login; and the way out."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from node.admin import accounts, audit
from node.errors import AccountError
from node.storage import accounts as rows
from node.web import auth, view
from node.web.auth import KNOCK, SESSION, Viewer
from node.web.desk import At, Desk

log = logging.getLogger(__name__)
router = APIRouter()

Field = Annotated[str, Form(max_length=512)]


@router.get("/static/{name}")
def static(name: str) -> Response:
    return view.static_file(name)


@router.get("/login")
def login_page(request: Request, desk: At, next: str = "/") -> Response:
    if not rows.all_of(desk.store):
        return RedirectResponse("/first", 303)
    return _form(request, desk, "login.html", next=auth.local(next))


@router.post("/login")
async def login(request: Request, desk: At, name: Field, password: Field, next: Field = "/") -> Response:
    await auth.see_token(request, request.cookies.get(KNOCK, ""))
    where = auth.address(request)

    def enter() -> str:
        well = False
        try:
            token = accounts.log_in(desk.store, name.strip(), password, address=where, now=desk.clock())
            well = True
            return token
        finally:
            _audited(desk, name.strip(), login=True, well=well, address=where)

    try:
        token = await run_in_threadpool(enter)
    except accounts.Refused as error:
        return _form(request, desk, "login.html", status=401, next=auth.local(next), wrong=str(error))
    except accounts.TooMany as error:
        log.warning("web.too-many-logins address=%s", where)
        return _form(request, desk, "login.html", status=429, next=auth.local(next), wrong=str(error))
    response = RedirectResponse(auth.local(next), 303)
    auth.let_in(response, desk, token)
    return response


@router.post("/logout")
def logout(request: Request, desk: At, who: Viewer) -> Response:
    rows.log_out(desk.store, accounts.token_digest(request.cookies.get(SESSION, "")))
    _audited(desk, who.account.name, login=False, well=True, address=auth.address(request))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(SESSION, path="/")
    return response


@router.get("/first")
def first_page(request: Request, desk: At) -> Response:
    if rows.all_of(desk.store):
        return RedirectResponse("/login", 303)
    return _form(request, desk, "first.html")


@router.post("/first")
async def first(request: Request, desk: At, token: Field, name: Field, password: Field) -> Response:
    await auth.see_token(request, request.cookies.get(KNOCK, ""))
    folder = desk.settings.node.data_dir

    def make() -> None:
        accounts.add_first(desk.store, folder, token, name.strip(), password, now=desk.clock())

    try:
        await run_in_threadpool(make)
    except AccountError as error:
        return _form(request, desk, "first.html", status=403, wrong=str(error), name=name)
    return view.back("/login", "The account is made: log in with it.")


def _audited(desk: Desk, person: str, *, login: bool, well: bool, address: str) -> None:
    now = desk.clock()
    audit.authenticated(desk.store, desk.settings, person, login=login, well=well, address=address, now=now)


def _form(
    request: Request, desk: Desk, template: str, *, status: int = 200, wrong: str = "", **values: str
) -> Response:
    cookie = request.cookies.get(KNOCK) or auth.knock()
    values = {"name": "", "next": "/"} | values
    form_token = auth.form_token(cookie)
    response = view.page(request, template, None, status=status, form_token=form_token, wrong=wrong, **values)
    auth.keep(response, desk, KNOCK, cookie)
    return response
