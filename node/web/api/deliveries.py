"""Deliveries, and trying again what was given up."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from node.admin import decisions
from node.domain import DeliveryState
from node.storage import browse
from node.storage.browse import PAGE
from node.web.api import answers
from node.web.api.answers import CHANGES
from node.web.auth import Operator, Viewer
from node.web.decided import decided
from node.web.desk import At, Before, Limit, peer_of

router = APIRouter(prefix="/deliveries")
To = Annotated[str, Query(max_length=64, description="Only those to this peer.")]


@router.get("")
def listed(
    desk: At,
    who: Viewer,
    state: Annotated[DeliveryState | None, Query(description="Only those in this state.")] = None,
    peer: To = "",
    limit: Limit = PAGE,
    before: Before = 0,
) -> answers.Deliveries:
    """Deliveries that are not stopped for good, the newest first."""
    states = [state] if state else list(DeliveryState)
    found = browse.sends(desk.store, *states, peer=peer, before=before, limit=limit + 1)
    shown = [answers.Delivery.model_validate(one) for one in found[:limit]]
    return answers.Deliveries(deliveries=shown, next_before=shown[-1].row if len(found) > limit else None)


@router.post("/retry", responses=CHANGES)
def retry(desk: At, who: Operator, peer: To = "") -> answers.Retried:
    """Try again everything that was given up, or what goes to one peer."""
    name = peer_of(desk, peer).name if peer else None
    done = decisions.retry_all(desk.settings, desk.store, desk.bell, peer=name, now=desk.clock())
    decided(who, "retry-all", peer=name or "all")
    return answers.Retried.model_validate(done)
