"""Peers, and asking one whether it is there."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from node.admin.destinations import destinations
from node.admin.echo import ask, can_be_asked
from node.errors import DecisionError
from node.storage import echoes
from node.web.api import answers
from node.web.api.answers import CHANGES
from node.web.auth import Operator, Viewer
from node.web.decided import decided
from node.web.desk import At, peer_of

router = APIRouter(prefix="/peers")


@router.get("")
def listed(desk: At, who: Viewer) -> list[answers.Peer]:
    """Peers of the settings: what each may, takes, and answered when it was last asked."""
    return [answers.Peer.model_validate(one) for one in destinations(desk.settings, desk.store)]


@router.post("/{name}/echo", responses=CHANGES)
def echo(desk: At, who: Operator, name: Annotated[str, Path(max_length=64)]) -> answers.Echo:
    """Ask a peer whether it is there and knows this node; that it does not answer is an answer, too."""
    peer = peer_of(desk, name)
    if not can_be_asked(peer):
        raise DecisionError(f"{peer.name} only sends: there is no place to ask")
    said = ask(peer, desk.settings, now=desk.clock())
    echoes.remember(desk.store, said)
    decided(who, "echo", peer=peer.name)
    return answers.Echo.model_validate(said)
