"""Pictures of instances and results, decoded in a child process, kept in memory for a while, never by a browser."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from models import render
from models.refusal import NotAnalysable
from node.domain import Gone
from node.storage import browse, instances, jobs
from node.storage.spool import digest_of
from node.web.auth import Viewer
from node.web.desk import At, Desk, Row

router = APIRouter(prefix="/studies/{study_id}")

EDGES = {"small": 240, "large": 1024}
"""Pixels of the longer side."""
KEPT_BYTES = 64 * 1024**2
WAITS_SECONDS = 2.0
"""Whoever waits takes up a thread that others need to log in; `script.js` asks again."""

_decoding = threading.BoundedSemaphore(2)


class _Kept:
    """The pictures that were last asked for, by digest and size."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> bytes | None:
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
            return self._pictures.get(key)

    def put(self, key: tuple[str, str], data: bytes) -> None:
        with self._lock:
            self._bytes += len(data) - len(self._pictures.pop(key, b""))
            self._pictures[key] = data
            while self._bytes > KEPT_BYTES:
                _, dropped = self._pictures.popitem(last=False)
                self._bytes -= len(dropped)


_kept = _Kept()


@router.get("/instances/{instance_id}/{size}.png")
def of_instance(desk: At, who: Viewer, study_id: Row, instance_id: Row, size: str) -> Response:
    members = instances.of_study(desk.store, browse.study(desk.store, study_id).id)
    found = next((i for i in members if i.id == instance_id), None)
    if found is None or found.gone is not Gone.KEPT:
        return _none("The image is not kept any more.")
    return _picture(desk, found.path, found.digest, size)


@router.get("/results/{result_id}/{size}.png")
def of_result(desk: At, who: Viewer, study_id: Row, result_id: Row, size: str) -> Response:
    made = jobs.results(desk.store, browse.study(desk.store, study_id).id)
    found = next((r for r in made if r.id == result_id and r.kind == "sc"), None)
    if found is None or found.purged:
        return _none("The picture is not kept any more.")
    return _picture(desk, found.path, found.digest, size)


def _picture(desk: Desk, path: Path, digest: str, size: str) -> Response:
    if size not in EDGES:
        return _none("There is no such size.")
    data = _kept.get((digest, size))
    if data is None:
        if not _decoding.acquire(timeout=WAITS_SECONDS):
            return PlainTextResponse("Too many pictures at once: try again.", 503, headers={"Retry-After": "2"})
        try:
            here = desk.spool.shelf.at_hand(path)
            if digest_of(here) != digest:
                return _none("The file was altered.")
            data = render.png(here, edge=EDGES[size])
        except NotAnalysable as error:
            return _none(error.reason)
        except OSError:
            return _none("The file cannot be read.")
        finally:
            _decoding.release()
        _kept.put((digest, size), data)
    return Response(data, media_type="image/png")


def _none(why: str) -> Response:
    return PlainTextResponse(why, 404)
