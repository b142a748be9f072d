"""The dashboard as one ASGI application: the door, the pages, the API, the probes, and what is said when one of them
cannot be had.

A page is a module in `pages/` that exposes `router`; one with parts that follow the node also `parts`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from starlette.exceptions import HTTPException

from config.settings import Settings
from node.errors import AmbiguousStudy, NoSuchStudy, OverreadError, StoreError
from node.storage.bell import Bell
from node.storage.spool import Spool
from node.storage.store import Store
from node.web import api, live, probes, view
from node.web.auth import Forbidden, NotLoggedIn, login_url
from node.web.desk import Desk
from node.web.door import Door, for_programs
from node.web.pages import PAGES


def build(
    settings: Settings, store: Store, spool: Spool, bell: Bell, *, clock: Callable[[], float] = time.time
) -> FastAPI:
    """The application of one node. Opens nothing and listens nowhere."""
    app = FastAPI(title="Overread", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = Desk(settings, store, spool, bell, clock)
    app.state.live = live.Parts()
    routers: list[APIRouter] = [live.router, api.router]
    for module in PAGES:
        routers.append(module.router)
        for name, render in getattr(module, "parts", {}).items():
            app.state.live.register(name, render)
    for router in routers:
        app.include_router(router)
    app.state.paths = [route for router in routers for route in router.routes]
    probes.install(app, settings, store, spool)
    app.add_middleware(Door, rules=settings.web, failed=_failed)
    _answer_errors(app)
    return app


def _answer_errors(app: FastAPI) -> None:
    """What is raised below a page, as an answer that a person understands."""

    @app.exception_handler(NotLoggedIn)
    def _login(request: Request, _: Exception) -> Response:
        path = request.url.path
        if path == "/events" or for_programs(path):
            return _said(request, 401, "Log in first, or bring an API token.", {"www-authenticate": "Bearer"})
        return RedirectResponse(login_url(request), 303)

    @app.exception_handler(Forbidden)
    def _forbidden(request: Request, error: Exception) -> Response:
        return _said(request, 403, str(error))

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        said = "There is no such page." if error.detail == "Not Found" else str(error.detail)
        return _said(request, error.status_code, said, error.headers)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: Exception) -> Response:
        # without the values that came: they may be a patient's
        assert isinstance(error, RequestValidationError)
        fields = sorted({str(e["loc"][-1]) for e in error.errors()})
        return _said(request, 422, f"This cannot be read: {', '.join(fields)}.")

    @app.exception_handler(OverreadError)
    def _refused(request: Request, error: Exception) -> Response:
        if isinstance(error, NoSuchStudy | AmbiguousStudy):
            return _said(request, 404, "There is no such study.")
        return _said(request, 503 if isinstance(error, StoreError) else 409, str(error))


def _said(request: Request, status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    if for_programs(request.url.path):
        return JSONResponse({"detail": text}, status, headers)
    answer = _failed(status, text)
    answer.headers.update(headers or {})
    return answer


def _failed(status: int, text: str) -> Response:
    """A page of one sentence; it asks nothing of the database, which may be what failed."""
    try:
        html = view.templates.get_template("said.html").render(status=status, text=text)
    except Exception:  # the edge's own edge: a broken template must not end the answer
        return PlainTextResponse(text, status)
    return HTMLResponse(html, status)
