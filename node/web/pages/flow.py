"""Flow: the six verbs at a glance, what runs, what needs a person."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from node.admin.flow import flow
from node.web import view
from node.web.auth import Viewer
from node.web.desk import At, Desk
from node.web.live import Live

router = APIRouter()


@router.get("/")
def page(request: Request, desk: At, who: Viewer, live: Live) -> Response:
    return view.page(request, "flow.html", who, flow=Markup(live.html(desk, "flow")))  # noqa: S704


def _flow(desk: Desk, _: int) -> str:
    seen = flow(desk.settings, desk.store, desk.spool, now=desk.clock())
    return view.fragment("parts/flow.html", flow=seen, now=desk.clock())


parts = {"flow": _flow}
