"""Finding and fetching through Orthanc's REST, from a server of ours that is as odd as a test wants it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from shelf_made import Taken, object_of, uid_of
from web_made import Reply, Request, Web

from node.errors import AssociationFailed, Refused
from node.network.rest import RestSource, echo
from node.network.source import Fetched, Found, Wanted
from node.network.taking import Room
from node.network.webget import Reader

JSON = "application/json"


class Orthanc:
    """Studies with series and instances, as a version of Orthanc tells them that is as new as asked for."""

    def __init__(self, *, new: bool) -> None:
        self.studies: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, dict[str, bytes]] = {}
        self.modalities: dict[str, list[str]] = {}
        self.posts = 200
        self.most = 1000
        self._new = new

    def add(
        self, uid: str, *objects: bytes, modalities: str = "CR", date: str = "20200102", patient: str = "P"
    ) -> None:
        self.studies[f"id-{uid}"] = {
            "ID": f"id-{uid}",
            "MainDicomTags": {"StudyInstanceUID": uid, "StudyDate": date, "AccessionNumber": ""},
            "PatientMainDicomTags": {"PatientID": patient},
        }
        if self._new:
            told = {"ModalitiesInStudy": modalities, "NumberOfStudyRelatedInstances": str(len(objects))}
            self.studies[f"id-{uid}"]["RequestedTags"] = told
        self.modalities[f"id-{uid}"] = modalities.split("\\")
        self.objects[f"id-{uid}"] = {f"{uid}/{n}": data for n, data in enumerate(objects)}

    def __call__(self, request: Request) -> Reply:
        where = urlsplit(request.path)
        path = where.path.strip("/").split("/")
        if request.method == "POST":
            asked = json.loads(request.body)
            return self._page(asked["Since"], asked["Limit"]) if self.posts == 200 else Reply(self.posts)
        if path == ["studies"]:
            asked = {key: values[0] for key, values in parse_qs(where.query, keep_blank_values=True).items()}
            assert "expand" in asked or asked["limit"] == "1"
            return self._page(int(asked["since"]), int(asked["limit"]))
        if path[0] == "instances":
            found = [
                objects["/".join(path[1:3])] for objects in self.objects.values() if "/".join(path[1:3]) in objects
            ]
            return Reply(200, found[0], "application/dicom") if found else Reply(404)
        if path[1] not in self.studies:
            return Reply(404)
        objects = self.objects[path[1]]
        said: Any = {
            "statistics": {"CountInstances": len(objects)},
            "series": [{"ID": m, "MainDicomTags": {"Modality": m}} for m in self.modalities[path[1]]],
            "instances": [{"ID": i, "MainDicomTags": {"SOPInstanceUID": uid_of(d)}} for i, d in objects.items()],
        }[path[2]]
        return Reply(200, json.dumps(said).encode(), JSON)

    def _page(self, since: int, limit: int) -> Reply:
        page = list(self.studies.values())[since : since + min(limit, self.most)]
        return Reply(200, json.dumps(page).encode(), JSON)


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.stop()


@pytest.fixture(params=[True, False], ids=["new", "old"])
def orthanc(request: pytest.FixtureRequest, web: Web) -> Orthanc:
    made = Orthanc(new=request.param)
    # Ids with a slash are one step of a path only when they are quoted
    web.reply = lambda asked: made(Request(asked.method, asked.path.replace("%2F", "/"), asked.headers, asked.body))
    return made


@pytest.fixture
def ask(web: Web, tmp_path: Path) -> Iterator[Callable[..., RestSource]]:
    made: list[RestSource] = []
    folder = tmp_path / "room"
    folder.mkdir()

    def make(limit: int = 1 << 20) -> RestSource:
        made.append(RestSource(reader(web), Room(folder, limit)))
        return made[-1]

    yield make
    for source in made:
        source.close()
    assert not list(folder.iterdir())


def reader(web: Web) -> Reader:
    return Reader(web.url.removesuffix("/dicom-web"), what="Orthanc's REST", timeout=5)


Ask = Callable[..., RestSource]


@pytest.mark.parametrize("posts", [200, 403, 404, 405, 501])
def test_studies_are_found_also_where_nothing_may_be_posted(web: Web, orthanc: Orthanc, ask: Ask, posts: int) -> None:
    for n in range(7):
        orthanc.add(f"1.2.{n}", object_of(f"1.2.{n}"), modalities="DX\\SR" if n % 2 else "CT", date=f"2020010{n}")
    orthanc.posts, orthanc.most = posts, 3
    found = list(ask().find(Wanted(since="20200102", modalities=("CR", "DX"))))
    assert [(one.study_instance_uid, one.modalities) for one in found] == [
        ("1.2.3", ("DX", "SR")),
        ("1.2.5", ("DX", "SR")),
    ]
    assert web.connections == 1


def test_what_is_told_is_told(orthanc: Orthanc, ask: Ask) -> None:
    orthanc.add("1.2", object_of("1.2"), object_of("1.2"), modalities="CR\\SR")
    (found,) = ask().find(Wanted())
    told = Found("1.2", "20200102", "", ("CR", "SR"), 2)
    assert found in (told, Found("1.2", "20200102"))
    assert ask().count("1.2") == 2
    assert ask().count("1.3") == 0


@pytest.mark.parametrize("posts", [200, 405])
def test_a_study_comes_object_by_object_as_it_is_stored(orthanc: Orthanc, ask: Ask, posts: int) -> None:
    orthanc.posts = posts
    objects = [object_of("1.2", size) for size in (20, 200_000)]
    orthanc.add("1.2", *objects)
    orthanc.add("1.3", object_of("1.3"))
    taken, source = Taken(), ask()
    assert source.fetch("1.2", taken) == Fetched(2)
    assert list(taken.data.values()) == objects


def test_what_is_lost_on_the_way_is_asked_for_when_it_is_fetched_again(web: Web, orthanc: Orthanc, ask: Ask) -> None:
    objects = [object_of("1.2", 200) for _ in range(3)]
    orthanc.add("1.2", *objects)
    good = web.reply

    def cut(request: Request) -> Reply | None:
        reply = good(request)
        if reply is not None and "1.2%2F1" in request.path:
            reply.cut = 100
        return reply

    web.reply = cut
    taken, source = Taken(), ask()
    with pytest.raises(AssociationFailed, match="ended the connection"):
        source.fetch("1.2", taken)
    web.reply = good
    assert source.fetch("1.2", taken) == Fetched(2)
    assert (taken.calls, set(taken.data)) == (3, set(map(uid_of, objects)))


def test_what_orthanc_cannot_give_is_said(web: Web, orthanc: Orthanc, ask: Ask) -> None:
    orthanc.add("1.2", object_of("1.2"), object_of("1.2", 100_000), object_of("1.2"))
    good = web.reply
    web.reply = lambda request: Reply(404) if "1.2%2F0" in request.path else good(request)
    fetched = ask(limit=50_000).fetch("1.2", Taken())
    assert (fetched.taken, fetched.failed) == (1, 2)
    assert "answers 404 (Not Found)" in fetched.reason
    assert "longer than listener.instance_limit_mb allows" in fetched.reason


def test_a_study_that_was_deleted_meanwhile_is_nothing(orthanc: Orthanc, ask: Ask) -> None:
    orthanc.add("1.2", object_of("1.2"))
    source = ask()
    list(source.find(Wanted()))
    del orthanc.studies["id-1.2"]
    assert source.fetch("1.2", Taken()).reason.endswith("has no such study")
    assert source.count("1.2") == 0


@pytest.mark.parametrize("code", [401, 429, 500])
def test_a_refusal_that_is_not_about_posting_is_one(web: Web, ask: Ask, code: int) -> None:
    web.reply = lambda request: Reply(code)
    with pytest.raises(Refused, match=f"answers {code}"):
        list(ask().find(Wanted()))
    assert len(web.requests) == 1


def test_something_else_than_orthanc_is_told(web: Web) -> None:
    web.reply = lambda request: Reply(200, b"<html>", "text/html")
    with pytest.raises(Refused, match="answers with text/html, not as Orthanc's REST"):
        echo(reader(web))


def test_an_orthanc_answers_an_echo(orthanc: Orthanc, web: Web) -> None:
    assert 0 < echo(reader(web)) < 5
