"""What every request passes before any page sees it, and what every answer takes along.

Names that are not ours are refused (a foreign page can make its name mean our address), unless a program brings a
token; so are forms from elsewhere and bodies that are too long. An error ends here as a page without its message, which
could hold a value of a data set.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.web import Web
from node.edge import whereabouts

log = logging.getLogger(__name__)

BODY_BYTES = 256 * 1024
API, PROBES = "/api/", ("/metrics", "/healthz", "/readyz")
CONTENT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # not no-referrer: with that, forms would not say where they come from either
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def for_programs(path: str) -> bool:
    """Whether programs ask there, with tokens of their own, and are answered in JSON."""
    return path.startswith(API) or path in PROBES


class Door:
    """The one middleware. `failed` makes the page that is shown for an error of ours."""

    def __init__(self, app: ASGIApp, *, rules: Web, failed: Callable[[int, str], Response]) -> None:
        self._app = app
        self._public_url = rules.public_url
        self._public = urlsplit(rules.public_url).hostname if rules.public_url else None
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            if refusal := self._refusal(Headers(scope=scope), scope["method"], scope["path"]):
                await refusal(scope, receive, answer)
            else:
                await self._app(scope, _bounded(receive), answer)
        except Exception as error:
            log.error("web.failed route=%s %s", _route(scope), whereabouts(error))
            if not status:
                said = "Something went wrong here; the node's log says where."
                await self._failed(500, said)(scope, receive, answer)
        _log(scope, status)

    def _refusal(self, headers: Headers, method: str, path: str) -> Response | None:
        # A container goes by any name; but who brings a token is no page that has a foreign name mean our address
        brings_token = for_programs(path) and "authorization" in headers
        if not brings_token and not self._is_ours(headers.get("host", "")):
            said = "This name is not the dashboard's. Use its address, or set web.public_url in the settings.\n"
            return PlainTextResponse(said, 421)
        if method not in ("GET", "HEAD") and not self._from_here(headers):
            return PlainTextResponse("This form was sent from another site.\n", 403)
        if int(headers.get("content-length") or 0) > BODY_BYTES:
            return PlainTextResponse("The form is too long.\n", 413)
        return None

    def _is_ours(self, host: str) -> bool:
        """A literal address cannot be made to mean another one; of names there are two."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in ("localhost", self._public):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _from_here(self, headers: Headers) -> bool:
        """By what browsers say of where a form comes from; programs say nothing, and have no cookies to be misused."""
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("origin")
        return origin is None or origin == self._public_url or urlsplit(origin).netloc == headers.get("host")


def _bounded(receive: Receive) -> Receive:
    got = 0

    async def bounded() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > BODY_BYTES:
            raise HTTPException(413, "The form is too long.")
        return message

    return bounded


def _route(scope: Scope) -> str:
    """The pattern of the route, never what was asked for: that may be anything."""
    return str(getattr(scope.get("route"), "path", "none"))


def _log(scope: Scope, status: int) -> None:
    level = logging.DEBUG if scope["method"] in ("GET", "HEAD") and status < 400 else logging.INFO
    rows = ",".join(f"{k}={v}" for k, v in scope.get("path_params", {}).items() if str(v).isdecimal())
    who = scope.get("overread.account", "nobody")
    log.log(
        level,
        "web.request method=%s route=%s rows=%s status=%d account=%s",
        *(scope["method"], _route(scope), rows or "none", status, who),
    )
