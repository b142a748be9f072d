"""Settings: those that the node runs with, to be read; they are changed in their file."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from node.admin.effective import effective
from node.web import view
from node.web.auth import Viewer
from node.web.desk import At

router = APIRouter(prefix="/settings")


@router.get("")
def page(request: Request, desk: At, who: Viewer) -> Response:
    return view.page(request, "settings.html", who, parts=effective(desk.settings))
