"""The account of a day: every study that settled in it, and what became of it."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from fastapi import APIRouter, Request, Response

from node.admin.reconcile import Account, reconcile, totals
from node.web import view
from node.web.auth import Viewer
from node.web.desk import At

router = APIRouter(prefix="/reconcile")


@router.get("")
def page(request: Request, desk: At, who: Viewer, day: str = "") -> Response:
    today = datetime.fromtimestamp(desk.clock()).astimezone().date()
    chosen = _date(day) or today
    start = datetime.combine(chosen, datetime.min.time()).astimezone()
    end = datetime.combine(chosen + timedelta(days=1), datetime.min.time()).astimezone()
    lines = reconcile(desk.store, since=start.timestamp(), until=end.timestamp(), now=desk.clock())
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
        lines=[line for line in lines if line.account is not Account.COMMITTED],
        unexplained=Account.UNEXPLAINED,
    )


def _date(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if 1971 <= found.year <= 9000 else None
