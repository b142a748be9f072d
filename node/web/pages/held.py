"""Held studies: what contradicts what, side by side, and the decision of a person."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from node.admin import decisions
from node.admin.contradictions import contradictions
from node.storage import browse
from node.web import view
from node.web.auth import Operator, Viewer
from node.web.decided import decided
from node.web.desk import At, Row

router = APIRouter(prefix="/held")


@router.get("")
def page(request: Request, desk: At, who: Viewer) -> Response:
    return view.page(request, "held.html", who, held=contradictions(desk.store), now=desk.clock())


@router.post("/{study_id}/accept")
def accept(desk: At, who: Operator, study_id: Row) -> Response:
    n = decisions.accept(desk.store, desk.bell, browse.study(desk.store, study_id), now=desk.clock())
    decided(who, "accept", study=study_id)
    return view.back("/held", f"Study {study_id}: {n} instances accepted; a new revision follows.")


@router.post("/{study_id}/reject")
def reject(desk: At, who: Operator, study_id: Row) -> Response:
    n = decisions.reject(desk.store, desk.bell, browse.study(desk.store, study_id), now=desk.clock())
    decided(who, "reject", study=study_id)
    return view.back("/held", f"Study {study_id}: {n} instances rejected; it goes on as it was.")
