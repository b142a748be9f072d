"""Conformance: the DICOM Conformance Statement of this node, to be read and to be taken along."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from node.admin.conformance import as_fragment, as_html, as_markdown, statement
from node.web import view
from node.web.auth import Viewer
from node.web.desk import At

router = APIRouter(prefix="/conformance")


@router.get("")
def page(request: Request, desk: At, who: Viewer) -> Response:
    said = statement(desk.settings, now=desk.clock())
    # all text in it is escaped where it is made
    return view.page(request, "conformance.html", who, title=said.title, told=Markup(as_fragment(said)))  # noqa: S704


@router.get("/statement.html")
def html(desk: At, who: Viewer) -> Response:
    return _file(as_html(statement(desk.settings, now=desk.clock())), "text/html", "conformance.html")


@router.get("/statement.md")
def markdown(desk: At, who: Viewer) -> Response:
    return _file(as_markdown(statement(desk.settings, now=desk.clock())), "text/markdown", "conformance.md")


def _file(text: str, media_type: str, name: str) -> Response:
    return Response(text, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'})
