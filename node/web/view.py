"""Pages from templates: the one Jinja environment, what all templates know, and the static files.

Templates escape everything; they get records and plain values, never a store.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import quote, unquote

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pydicom.uid import UID

import node
from node.admin.wording import moment
from node.web.auth import Visitor

NAVIGATION = (
    ("Flow", "/"),
    ("Studies", "/studies"),
    ("Held", "/held"),
    ("Deliveries", "/deliveries"),
    ("Day", "/reconcile"),
    ("Pulls", "/pulls"),
    ("Peers", "/peers"),
    ("Models", "/models"),
    ("Settings", "/settings"),
    ("Conformance", "/conformance"),
)
"""Name and path; an entry is shown once a page with that path is served."""
SAID = "overread_said"
"""The cookie that carries a sentence from a form to the page after it."""


def age(seconds: float | None) -> str:
    """A duration as people say it, in one unit."""
    if seconds is None:
        return ""
    for size, unit in ((172800, "d"), (7200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds / {'d': 86400, 'h': 3600, 'min': 60}[unit]:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def words_for(sop_class_uid: str) -> str:
    """What an object is that has no picture, such as "Enhanced SR"; empty for an image, which is shown."""
    name = UID(sop_class_uid).name
    if "Image Storage" in name:
        return ""
    return "private object" if name == sop_class_uid else name.removesuffix(" Storage")


def size(n: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"


def ticks(text: str) -> Markup:
    """A sentence of the command line: what stands between backticks is typed."""
    parts = text.split("`")
    return Markup().join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


@dataclass(frozen=True)
class Static:
    """One static file, held in memory; `tag` changes with its bytes."""

    data: bytes
    media_type: str
    tag: str


def _static() -> dict[str, Static]:
    found = {}
    for entry in (resources.files("node.web") / "static").iterdir():
        data = entry.read_bytes()
        kind = mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
        found[entry.name] = Static(data, kind, hashlib.sha256(data).hexdigest()[:12])
    return found


STATIC = _static()

templates = Environment(
    loader=PackageLoader("node.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
templates.filters |= {"moment": moment, "age": age, "size": size, "ticks": ticks, "words_for": words_for}
templates.globals |= {
    "version": node.__version__,
    "static": {name: f"/static/{name}?{file.tag}" for name, file in STATIC.items()},
}


def page(request: Request, template: str, who: Visitor | None, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page. `who` is None on the pages before the login.

    Shows what the last form led to (`back`), once.
    """
    served = {getattr(route, "path", "") for route in request.app.state.paths}
    entries = [entry for entry in NAVIGATION if entry[1] in served] if who else []
    shared: Mapping[str, Any] = {
        "who": who,
        "here": request.url.path,
        "navigation": entries,
        "node_name": request.app.state.desk.settings.node.ae_title,
        "said": unquote(request.cookies.get(SAID, "")),
    }
    response = HTMLResponse(templates.get_template(template).render(**shared, **values), status)
    if SAID in request.cookies:
        response.delete_cookie(SAID, path="/")
    return response


def back(path: str, said: str) -> Response:
    """After a form: lead to a page, which says what was done. `said` holds no patient data."""
    response = RedirectResponse(path, 303)
    response.set_cookie(SAID, quote(said), path="/", httponly=True, samesite="strict", max_age=60)
    return response


def fragment(template: str, **values: Any) -> str:
    """A part of a page, as `live.py` sends it."""
    return templates.get_template(template).render(**values)


def static_file(name: str) -> Response:
    file = STATIC.get(name)
    if file is None:
        return Response(status_code=404)
    kept = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(file.data, media_type=file.media_type, headers=kept)
