"""Deliveries and what was given up: jobs, results that failed their check, sends, requests for commitment."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response

from node.admin import decisions
from node.domain import DeliveryState
from node.errors import DecisionError
from node.storage import browse
from node.storage.browse import PAGE
from node.web import view
from node.web.auth import Operator, Viewer
from node.web.decided import decided
from node.web.desk import At

router = APIRouter(prefix="/deliveries")

OPEN = (DeliveryState.DEAD, DeliveryState.QUEUED, DeliveryState.LEASED, DeliveryState.SENT)
"""What is shown unless a state is asked for: all that is not finished, what was given up first."""


@router.get("")
def page(
    request: Request,
    desk: At,
    who: Viewer,
    state: str = "",
    peer: str = "",
    before: Annotated[int, Query(ge=0, lt=2**53)] = 0,
) -> Response:
    chosen = DeliveryState(state) if state in list(DeliveryState) else None
    states = [chosen] if chosen else list(OPEN)
    found = browse.sends(desk.store, *states, peer=peer, before=before, limit=PAGE + 1)
    return view.page(
        request,
        "deliveries.html",
        who,
        sends=found[:PAGE],
        more=len(found) > PAGE,
        state=chosen or "",
        peer=peer,
        states=list(DeliveryState),
        peers=[p.name for p in desk.settings.peer if "receive" in p.may],
        jobs=browse.dead_jobs(desk.store),
        unsound=browse.unsound(desk.store),
        commitments=browse.commitments(desk.store),
        now=desk.clock(),
    )


@router.post("/retry")
def retry(desk: At, who: Operator, peer: Annotated[str, Form(max_length=64)] = "") -> Response:
    """Everything that was given up, or what goes to one peer."""
    if peer and desk.settings.peer_named(peer) is None:
        raise DecisionError("no peer of the settings has that name")
    done = decisions.retry_all(desk.settings, desk.store, desk.bell, peer=peer or None, now=desk.clock())
    decided(who, "retry-all", peer=peer or "all")
    to = f" to {peer}" if peer else ""
    said = f"{done.jobs} jobs and {done.deliveries} deliveries{to} will be tried again; {done.proofs} asked about."
    return view.back("/deliveries", said)
