"""Models: what runs, what it is worth, and whether its scores are distributed as they were."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from markdown_it import MarkdownIt
from markupsafe import Markup

from models.bundle import BundleError
from node.admin.models import models, portrait
from node.storage.scores import BINS
from node.web import view
from node.web.auth import Viewer
from node.web.desk import At

router = APIRouter(prefix="/models")
BELOW = 2
"""The page has its h1, and an h2 for the card."""
_card = MarkdownIt("commonmark", {"html": False}).enable("table")


@router.get("")
def page(request: Request, desk: At, who: Viewer) -> Response:
    return view.page(request, "models.html", who, models=models(desk.settings, desk.bundles))


@router.get("/{ref}")
def one(request: Request, desk: At, who: Viewer, ref: str) -> Response:
    try:
        seen = portrait(desk.settings, desk.store, desk.bundles, ref, now=desk.clock())
    except BundleError:
        raise HTTPException(404) from None
    return view.page(request, "model.html", who, seen=seen, card=_as_html(seen.card), bins=BINS)


def _as_html(card: str) -> Markup:
    """A card below the page's own headings; what it says in tags is shown as text (`html` is off)."""
    environment: dict[str, object] = {}
    tokens = _card.parse(card, environment)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + BELOW, 6)}"
        elif token.type == "th_open":
            token.attrSet("scope", "col")
    return Markup(_card.renderer.render(tokens, _card.options, environment))  # noqa: S704
