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
    # html=False: what a card says in tags is shown as text
    card = Markup(_card.render(seen.card))  # noqa: S704
    return view.page(request, "model.html", who, seen=seen, card=card, bins=BINS)
