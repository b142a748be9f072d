"""A pull from a service on the web: what is here is not asked for again, and who asks for patience gets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from house import SETTINGS, House, make_image
from pydicom.uid import generate_uid
from shelf_made import Shelf
from test_pull import Pulling
from web_made import Reply, Request, Web

from node.network.source import Wanted
from node.storage import instances, pulls, studies
from node.storage.pulls import PullState, PullStudyState

ALL = Wanted(since="20000101")


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.stop()


@pytest.fixture
def shelf(web: Web) -> Shelf:
    made = Shelf()
    web.reply = made
    return made


@pytest.fixture
def pulling(build: Callable[..., House], web: Web, shelf: Shelf, tmp_path: Path) -> Pulling:
    peer = {"name": "pacs", "url": web.url, "may": ["query"]}
    nobody: Any = None
    return Pulling(build(peer=[peer, SETTINGS["peer"][1]], route=[]), nobody, tmp_path)


def put(shelf: Shelf, folder: Path, images: int = 1) -> str:
    """One more study on the shelf."""
    study = generate_uid()
    files = [make_image(folder / f"{generate_uid()}.dcm", StudyInstanceUID=study) for _ in range(images)]
    shelf.add(study, *(file.read_bytes() for file in files))
    return study


def fetches(web: Web) -> list[str]:
    """What was asked for besides lists: a study, or one instance of it."""
    paths = [r.path.partition("?")[0].removeprefix("/dicom-web/studies") for r in web.requests]
    return [
        "instance" if "/instances/" in path else "study" for path in paths if path and not path.endswith("instances")
    ]


def test_studies_come_by_dicomweb_and_a_second_pull_brings_nothing(
    pulling: Pulling, web: Web, shelf: Shelf, tmp_path: Path
) -> None:
    uids = [put(shelf, tmp_path, 2) for _ in range(3)]
    pull = pulling.pull(ALL)
    assert (pull.state, pulling.states(pull)) == (PullState.DONE, {"DONE": 3})
    assert {s.study_instance_uid for s in studies.latest(pulling.house.store, 9)} == set(uids)
    assert {(s.peer, s.address) for s in _origins(pulling)} == {("pacs", "127.0.0.1")}
    assert fetches(web) == ["study"] * 3
    pulling.settle()
    again = pulling.pull(ALL)
    assert {s.reason for s in pulls.of_pull(pulling.house.store, again.id)} == {"was here already"}
    assert len(fetches(web)) == 3
    pulling.pull(ALL, again=True)
    assert len(fetches(web)) == 6


def _origins(pulling: Pulling) -> list[Any]:
    store = pulling.house.store
    rows = [i for s in studies.latest(store, 9) for i in instances.of_study(store, s.id)]
    return [studies.origin(store, row.association) for row in rows]


def test_a_new_process_asks_for_the_rest_only(pulling: Pulling, web: Web, shelf: Shelf, tmp_path: Path) -> None:
    put(shelf, tmp_path, 3)
    real, calls = pulling.house.receiver.on_instance, []

    def once(incoming: Any) -> Any:
        calls.append(incoming)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(incoming)

    pulling.house.receiver.on_instance = once  # type: ignore[method-assign]
    pull = pulling.begin(ALL)
    with pytest.raises(KeyboardInterrupt):
        pulling.go_on(pull)
    assert pulling.states(pulling.go_on(pull)) == {"DONE": 1}
    assert fetches(web) == ["study", "instance"]
    kept = instances.of_study(pulling.house.store, pulling.house.only_study().id)
    assert [i.receipts for i in kept] == [1, 1, 1]


@pytest.mark.parametrize(("code", "patience", "waits"), [(429, "120", 120), (503, "1", 5), (503, "", 5)])
def test_a_service_that_asks_for_patience_is_left_alone_for_so_long(
    pulling: Pulling, web: Web, shelf: Shelf, tmp_path: Path, code: int, patience: str, waits: float
) -> None:
    """The later of what it asks for and what we would have waited."""
    put(shelf, tmp_path)
    busy = [1]

    def reply(request: Request) -> Reply:
        is_fetch = not request.path.startswith("/dicom-web/studies?")
        if is_fetch and busy:
            busy.pop()
            return Reply(code, b"", "", headers={"Retry-After": patience} if patience else {})
        return shelf(request)

    web.reply = reply
    pull = pulling.pull(ALL)
    assert pulling.states(pull) == {"DONE": 1}
    assert waits <= pulling.waited < waits + 3
    only = pulling.only(pull)
    assert (only.attempts, only.state) == (0, PullStudyState.DONE)
