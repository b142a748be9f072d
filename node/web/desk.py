"""What every page works with, and how a handler gets at it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request

from config.settings import Settings
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
