"""The account of a day: every study that settled in it, and what became of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from fastapi import APIRouter, Request, Response

from node.admin.reconcile import Account, reconcile, totals
from node.web import days, view
from node.web.auth import Viewer
from node.web.desk import At

router = APIRouter(prefix="/reconcile")

MOST = 500
"""Lines of one page; `overread reconcile` prints all."""


@router.get("")
def page(request: Request, desk: At, who: Viewer, day: str = "") -> Response:
    today = datetime.fromtimestamp(desk.clock()).astimezone().date()
    chosen = days.parsed(day) or today
    since, until = days.bounds(chosen)
    lines = reconcile(desk.store, since=since, until=until, now=desk.clock())
    unfinished = [line for line in lines if line.account is not Account.COMMITTED]
    return view.page(
        request,
        "reconcile.html",
        who,
        day=chosen,
        today=today,
        before=chosen - timedelta(days=1),
        after=chosen + timedelta(days=1) if chosen < today else None,
        totals=totals(lines),
        settled=len(lines),
        lines=unfinished[:MOST],
        more=max(len(unfinished) - MOST, 0),
        unexplained=Account.UNEXPLAINED,
    )
