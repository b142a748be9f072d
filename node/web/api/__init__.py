"""REST for programs, under `/api/`: the same functions as the pages, answered in JSON and described by OpenAPI.

Each module exposes `router`. Who asks brings the API token of an account; a script of a page of ours has the session's
cookie, and brings the form's token in a header for whatever is not GET. Addresses hold row numbers and names from the
settings, never what names a patient.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.openapi.utils import get_openapi
from fastapi.security import APIKeyCookie, HTTPBearer

import node
from node.web.api import deliveries, held, peers, pulls, running, studies
from node.web.api.answers import told
from node.web.auth import HEADER, SESSION, Viewer
from node.web.door import API

DESCRIPTION = f"""The dashboard of a node, for programs. Research use only.

`overread web account token NAME` makes the API token of an account; it may what the account's role may. The cookie of a
session will do, too; whatever is not GET then needs the form's token in the header `{HEADER}`.

Times are seconds since the epoch. Studies go by their row numbers; no address names a patient, but answers do.
"""
_token = HTTPBearer(auto_error=False, scheme_name="token", description="The API token of an account.")
_cookie = APIKeyCookie(name=SESSION, auto_error=False, scheme_name="session", description="A login in the browser.")

router = APIRouter(
    prefix=API.rstrip("/"), dependencies=[Depends(_token), Depends(_cookie)], responses=told(401, 422, 503)
)
for module in (running, studies, held, deliveries, pulls, peers):
    router.include_router(module.router)


def description() -> dict[str, Any]:
    """The API as an OpenAPI document."""
    return get_openapi(title="Overread", version=node.__version__, description=DESCRIPTION, routes=router.routes)


@router.get("/openapi.json", include_in_schema=False)
def openapi(who: Viewer) -> dict[str, Any]:
    return description()
