"""What programs ask the dashboard: /metrics, /healthz, /readyz. They need no login and show nothing of a patient.

From this machine anybody may ask; from elsewhere whoever has the token of `[metrics] token_file`. Without one nobody.
A token that is brought must be right wherever it comes from: the door lets it in by any name.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from config.settings import Settings
from node.admin import health
from node.admin.health import Health
from node.admin.metrics import Exporter
from node.errors import SettingsError, StoreError
from node.network.secret import read_secret
from node.storage.spool import Spool
from node.storage.store import Store

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers that a proxy adds: what comes through it is not from this machine, whatever its address says."""


@dataclass(frozen=True)
class Watched:
    """What is asked about."""

    settings: Settings
    exporter: Exporter


def install(app: FastAPI, settings: Settings, store: Store, spool: Spool) -> None:
    """Have an application answer these questions about one node."""
    app.state.watched = Watched(settings, Exporter(settings, store, spool))
    app.include_router(router)


def admitted(request: Request) -> None:
    """Refuse whoever may not ask.

    Raises:
        HTTPException: 401 without the right token, 403 where there is none to be had.
    """
    if "authorization" not in request.headers and _is_here(request):
        return
    watched: Watched = request.app.state.watched
    file = watched.settings.metrics.token_file
    if file is None:
        raise HTTPException(403, "only this machine may ask: there is no [metrics] token_file")
    try:
        token = read_secret(file)
    except SettingsError:
        raise HTTPException(403, "the file of [metrics] token_file cannot be used") from None
    given = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise HTTPException(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})


def _is_here(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


router = APIRouter(dependencies=[Depends(admitted)], include_in_schema=False)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """For Prometheus, in the form that it asks for."""
    watched: Watched = request.app.state.watched
    try:
        text, content_type = watched.exporter.rendered(request.headers.get("accept", ""))
    except StoreError:
        # A scrape that fails is seen as such; half of the metrics would look like a node with nothing to do
        raise HTTPException(503, "the database does not answer") from None
    return Response(text, media_type=content_type)


@router.get("/healthz")
def healthz(request: Request) -> Response:
    """200 while the node lives, else 503: a restart may help."""
    return _answer(health.alive(request.app.state.watched.settings))


@router.get("/readyz")
def readyz(request: Request) -> Response:
    """200 while a study would be taken and read, else 503."""
    return _answer(health.ready(request.app.state.watched.settings))


def _answer(found: Health) -> Response:
    headers = {"Cache-Control": "no-store"}
    return JSONResponse({"well": found.well, "checks": found.checks}, 200 if found.well else 503, headers)
