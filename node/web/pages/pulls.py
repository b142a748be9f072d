"""Pulls: how far each is, how fast it goes, what it cost. They are made, stopped and resumed by `overread pull`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from node.admin.pulls import seen
from node.web import view
from node.web.auth import Viewer
from node.web.desk import At, Desk
from node.web.live import Live

router = APIRouter(prefix="/pulls")


@router.get("")
def page(request: Request, desk: At, who: Viewer, live: Live) -> Response:
    return view.page(request, "pulls.html", who, pulls=Markup(live.html(desk, "pulls")))  # noqa: S704


def _pulls(desk: Desk, _: int) -> str:
    return view.fragment("parts/pulls.html", pulls=seen(desk.store, now=desk.clock()))


parts = {"pulls": _pulls}
