"""What every page works with, and how a handler gets at it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Path, Query, Request

from config.settings import Peer, Settings
from models.registry import Registry
from node.pipeline.plan import registry
from node.storage.bell import Bell
from node.storage.spool import Spool
from node.storage.store import Store
from node.web.trying import Tests


@dataclass(frozen=True)
class Desk:
    """One node as the dashboard sees it. `clock` gives seconds since the epoch."""

    settings: Settings
    store: Store
    spool: Spool
    bell: Bell
    clock: Callable[[], float]

    @functools.cached_property
    def tests(self) -> Tests:
        """The tests of peers that were started here."""
        return Tests()

    @functools.cached_property
    def bundles(self) -> Registry:
        """The node's models; each is verified once, when it is first asked for."""
        return registry(self.settings)


def of_request(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


At = Annotated[Desk, Depends(of_request)]
"""What a handler writes to get the desk: `def page(desk: At)`."""
Row = Annotated[int, Path(ge=1, lt=2**63)]
"""A row number in an address; a database takes no larger one."""
Before = Annotated[int, Query(ge=0, lt=2**63, description="Those that follow this row.")]
Limit = Annotated[int, Query(ge=1, le=500, description="At most so many.")]


def peer_of(desk: Desk, name: str) -> Peer:
    """A peer of the settings, by the name that an address has.

    Raises:
        HTTPException: there is none.
    """
    peer = desk.settings.peer_named(name)
    if peer is None:
        raise HTTPException(404, "No peer of the settings has that name.")
    return peer
