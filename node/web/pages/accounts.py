"""Accounts: who may use the dashboard, for those who may decide it."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from node.admin import accounts
from node.errors import AccountError
from node.storage import accounts as rows
from node.storage.accounts import Role
from node.web import view
from node.web.auth import Admin
from node.web.desk import At, Row

log = logging.getLogger(__name__)
router = APIRouter(prefix="/accounts")

Field = Annotated[str, Form(max_length=512)]


@router.get("")
def page(request: Request, desk: At, who: Admin) -> Response:
    return view.page(request, "accounts.html", who, accounts=rows.all_of(desk.store), roles=list(Role), wrong="")


@router.post("")
def add(
    request: Request, desk: At, who: Admin, name: Field, role: Annotated[Role, Form()], password: Field
) -> Response:
    try:
        made = accounts.add(desk.store, name.strip(), role, password, now=desk.clock())
    except AccountError as error:
        listed = rows.all_of(desk.store)
        return view.page(request, "accounts.html", who, status=409, accounts=listed, roles=list(Role), wrong=str(error))
    log.info("account.added account=%s role=%s by=%s", made.name, made.role, who.account.name)
    return view.back("/accounts", f"{made.name} may log in as {made.role}.")


@router.post("/{account_id}/role")
def set_role(desk: At, who: Admin, account_id: Row, role: Annotated[Role, Form()]) -> Response:
    changed = rows.change(desk.store, rows.by_id(desk.store, account_id), role=role)
    log.info("account.role account=%s role=%s by=%s", changed.name, role, who.account.name)
    return view.back("/accounts", f"{changed.name} is {role} now, and was logged out.")


@router.post("/{account_id}/disabled")
def set_disabled(desk: At, who: Admin, account_id: Row, disabled: Annotated[bool, Form()]) -> Response:
    changed = rows.change(desk.store, rows.by_id(desk.store, account_id), disabled=disabled)
    log.info("account.disabled account=%s disabled=%s by=%s", changed.name, disabled, who.account.name)
    what = "may not log in any more" if disabled else "may log in again"
    return view.back("/accounts", f"{changed.name} {what}.")


@router.post("/{account_id}/password")
def set_password(desk: At, who: Admin, account_id: Row, password: Field) -> Response:
    account = rows.by_id(desk.store, account_id)
    accounts.set_password(desk.store, account, password)
    log.info("account.password account=%s by=%s", account.name, who.account.name)
    return view.back("/accounts", f"{account.name} has a new password, and was logged out.")
