"""Flow: the six verbs at a glance, what runs, what needs a person."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from node.admin.overview import overview
from node.web import view
from node.web.auth import Viewer
from node.web.desk import At, Desk

router = APIRouter()


@router.get("/")
def page(request: Request, desk: At, who: Viewer) -> Response:
    return view.page(request, "flow.html", who, **_seen(desk))


def _seen(desk: Desk) -> dict[str, Any]:
    return {"seen": overview(desk.settings, desk.store, desk.spool, now=desk.clock())}


def _flow(desk: Desk, _: int) -> str:
    return view.fragment("parts/flow.html", **_seen(desk))


parts = {"flow": _flow}
