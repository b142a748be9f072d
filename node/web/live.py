"""The parts of pages that follow the node: rendered anew every few seconds, sent when they changed.

A part is marked in a template (`<section id="flow-verbs" data-live>`), and rendered by the function that a page
registers under the same name. The script asks for the parts of its page; without it the page is as good as it was when
it was loaded. Many people who watch the same part cost one rendering.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from node.web.auth import SESSION, Viewer, Visitor, visitor
from node.web.desk import At, Desk

router = APIRouter()

SECONDS = 2.0
RESTS = 4
"""A part that takes long to render rests so many times as long."""
STREAMS, PARTS = 48, 8
"""Most streams at once, and most parts in one of them."""

Render = Callable[[Desk, int], str]
"""A part: from the desk, and the row number in its name (0 where it has none), to HTML."""


@dataclass
class _Kept:
    html: str = ""
    at: float = 0.0
    took: float = 0.0
    busy: bool = False
    """Somebody renders it anew; whoever has something to show shows that meanwhile."""


class Parts:
    """The parts that pages registered, each rendered at most every SECONDS whoever asks."""

    def __init__(self) -> None:
        self._renders: dict[str, Render] = {}
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()
        self.streams = 0

    def register(self, name: str, render: Render) -> None:
        self._renders[name] = render

    def known(self, name: str) -> bool:
        return _split(name)[0] in self._renders

    def html(self, desk: Desk, name: str) -> str:
        """The part as it is now, or was a moment ago."""
        kind, row = _split(name)
        with self._lock:
            kept = self._kept.setdefault(name, _Kept())
            fresh = time.monotonic() - kept.at < max(SECONDS / 2, RESTS * kept.took)
            if kept.html and (fresh or kept.busy):
                return kept.html
            kept.busy = True
        began = time.monotonic()
        try:
            html = self._renders[kind](desk, row)
        finally:
            kept.busy = False
        with self._lock:
            self._kept[name] = _Kept(html, time.monotonic(), time.monotonic() - began)
            while len(self._kept) > 256:
                del self._kept[next(iter(self._kept))]
        return html


def _split(name: str) -> tuple[str, int]:
    """`study-7` is the part `study` of row 7; `flow` has no row."""
    found = re.fullmatch(r"([a-z-]+?)(?:-(\d{1,15}))?", name)
    return (found[1], int(found[2] or 0)) if found else ("", 0)


def of_request(request: Request) -> Parts:
    parts: Parts = request.app.state.live
    return parts


Live = Annotated[Parts, Depends(of_request)]


@router.get("/events")
async def events(
    request: Request, who: Viewer, desk: At, live: Live, part: Annotated[list[str], Query(max_length=PARTS)]
) -> Response:
    """The parts of a page as server-sent events, until the page is left or the session ends."""
    if live.streams >= STREAMS:
        return Response(status_code=503)
    wanted = [name for name in part if live.known(name)]
    return StreamingResponse(_stream(live, desk, wanted, request), media_type="text/event-stream")


async def _stream(live: Parts, desk: Desk, wanted: list[str], request: Request) -> AsyncIterator[str]:
    cookie = request.cookies.get(SESSION, "")
    sent: dict[str, str] = {}
    live.streams += 1
    try:
        yield "retry: 5000\n\n"
        while not await request.is_disconnected():
            # a page that is only looked at does not keep its session alive
            if await run_in_threadpool(visitor, desk, cookie, touch=False) is None:
                yield event("gone", {})
                return
            for message in await run_in_threadpool(changes, live, desk, wanted, sent):
                yield message
            await anyio.sleep(SECONDS)
    finally:
        live.streams -= 1


def changes(live: Parts, desk: Desk, wanted: list[str], sent: dict[str, str]) -> list[str]:
    """Events for the parts that are not as they were `sent` last; a comment where all are."""
    found = []
    for name in wanted:
        html = live.html(desk, name)
        if sent.get(name) != html:
            sent[name] = html
            found.append(event("part", {"id": name, "html": html}))
    return found or [": nothing new\n\n"]


def event(kind: str, values: dict[str, str]) -> str:
    return f"event: {kind}\ndata: {json.dumps(values)}\n\n"


__all__ = ["Live", "Parts", "Render", "Visitor", "changes", "event", "router"]
