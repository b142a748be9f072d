"""Finding and fetching by DICOMweb, from a server of ours that is as odd as a test wants it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from shelf_made import Shelf, Taken, attribute, multipart, object_of, uid_of
from web_made import DICOM_JSON, Reply, Request, Web

from node.errors import AssociationFailed, Refused, SpoolError
from node.network.incoming import OUT_OF_RESOURCES, Status
from node.network.orthanc import free_port
from node.network.source import Fetched, Found, Wanted
from node.network.taking import Room
from node.network.wado import WadoSource
from node.network.webget import Reader
from node.network.weblink import Credentials

STUDY = "1.2.3"


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
def room(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "room"
    folder.mkdir()
    yield folder
    assert not list(folder.iterdir()), "every file was taken or deleted"


Ask = Callable[..., WadoSource]


@pytest.fixture
def ask(web: Web, room: Path) -> Iterator[Ask]:
    made: list[WadoSource] = []

    def make(url: str = "", *, timeout: float = 5.0, limit: int = 1 << 20, held: Any = None, **more: Any) -> WadoSource:
        here = Room(room, limit, held) if held else Room(room, limit)
        made.append(WadoSource(Reader(url or web.url, what="a DICOMweb service", timeout=timeout, **more), here))
        return made[-1]

    yield make
    for source in made:
        source.close()


def paths(web: Web) -> list[str]:
    return [urlsplit(request.path).path.removeprefix("/dicom-web") for request in web.requests]


# --- find and count ----------------------------------------------------------------------------------


def test_studies_are_found_with_what_is_told_of_them(shelf: Shelf, ask: Ask) -> None:
    shelf.add("1.2", object_of("1.2"), object_of("1.2"), date="20200102", accession="A1", modalities="CR\\SR")
    assert list(ask().find(Wanted())) == [Found("1.2", "20200102", "A1", ("CR", "SR"), 2)]


@pytest.mark.parametrize("most", [1000, 100, 7, 1])
def test_all_pages_are_read_and_each_study_is_told_once(web: Web, shelf: Shelf, ask: Ask, most: int) -> None:
    for n in range(205 if most > 50 else 23):
        shelf.add(f"1.2.{n}")
    shelf.most = most
    found = [one.study_instance_uid for one in ask().find(Wanted(modalities=("CR", "DX")))]
    assert found == list(shelf.told)
    assert web.connections == 1


def test_a_server_that_knows_no_pages_is_asked_twice(web: Web, shelf: Shelf, ask: Ask) -> None:
    shelf.add("1.2")
    shelf.add("1.3")

    def everything(request: Request) -> Reply:
        request.path = request.path.split("?")[0] + "?limit=100&offset=0"
        return shelf(request)

    web.reply = everything
    assert len(list(ask().find(Wanted()))) == 2
    assert len(web.requests) == 2


def test_each_value_is_asked_for_by_itself(web: Web, shelf: Shelf, ask: Ask) -> None:
    wanted = Wanted("20200101", "20201231", ("CR", "DX"), ("A1", "A2"))
    assert list(ask().find(wanted)) == []
    asked = [parse_qs(urlsplit(request.path).query) for request in web.requests]
    assert [(a["ModalitiesInStudy"], a["AccessionNumber"], a["StudyDate"]) for a in asked] == [
        ([modality], [accession], ["20200101-20201231"]) for modality in ("CR", "DX") for accession in ("A1", "A2")
    ]
    assert asked[0]["includefield"] == ["ModalitiesInStudy", "NumberOfStudyRelatedInstances"]
    assert asked[0]["fuzzymatching"] == ["false"]
    assert web.requests[0].headers["Accept"] == DICOM_JSON


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(since="20200102"), ["1.1", "1.2"]),
        (Wanted(until="20200101"), ["1.3"]),
        (Wanted(modalities=("DX",)), ["1.2", "1.4"]),
        (Wanted(accession_numbers=("A*",)), []),
        (Wanted(accession_numbers=("A1",)), ["1.1"]),
        (Wanted(patient_ids=("P2",)), ["1.2"]),
        (Wanted(study_instance_uids=("1.3", "1.9")), ["1.3"]),
    ],
)
def test_a_server_that_ignores_what_is_asked_is_not_believed(
    shelf: Shelf, ask: Ask, wanted: Wanted, found: list[str]
) -> None:
    shelf.add("1.1", date="20200102", accession="A1")
    shelf.add("1.2", date="20200103", accession="A12", modalities="DX", patient="P2")
    shelf.add("1.3", date="19991231", accession="a1")
    shelf.add("1.4", date="", modalities="DX")
    assert [one.study_instance_uid for one in ask().find(wanted)] == found


def test_what_a_server_does_not_tell_is_not_made_up(shelf: Shelf, ask: Ask) -> None:
    shelf.told["1.2"] = {"0020000D": attribute("UI", "1.2")}
    assert list(ask().find(Wanted(modalities=("CR",)))) == [Found("1.2")]
    assert ask().count("1.2") is None


def test_the_instances_of_a_study_are_counted(shelf: Shelf, ask: Ask) -> None:
    shelf.add("1.2", count="17")
    shelf.add("1.3", count=4)
    source = ask()
    assert [source.count(uid) for uid in ("1.2", "1.3", "1.4")] == [17, 4, 0]


@pytest.mark.parametrize(
    ("reply", "words", "permanent", "retry_after"),
    [
        (Reply(401), "answers 401 (Unauthorized): give user with password_file, or token_file", True, None),
        (Reply(403), "answers 403 (Forbidden): allow this node to query and to retrieve there", True, None),
        (Reply(404), "answers 404 (Not Found): it does not have it, or url in this peer's settings", True, None),
        (Reply(429, headers={"Retry-After": "17"}), "answers 429 (Too Many Requests): it is busy", False, 17),
        (Reply(429, headers={"Retry-After": "soon"}), "it is busy", False, None),
        (Reply(503, headers={"Retry-After": "Wed, 01 Jan 2200 00:00:00 GMT"}), "it is busy", False, 86400),
        (Reply(503, headers={"Retry-After": "Wed, 01 Jan 2020 00:00:00 GMT"}), "it is busy", False, 0),
        (Reply(500, b"secret trace", "text/plain"), "answers 500 (Internal Server Error): see its log", False, None),
        (Reply(200, b"<html>", "text/html"), "answers with text/html, not as a DICOMweb service", True, None),
        (Reply(200, b"[{", DICOM_JSON), "answers with application/dicom+json, not as a DICOMweb service", True, None),
        (Reply(200, b'{"error": 1}'), "does not answer with a list, as a DICOMweb service would", True, None),
        (Reply(200, b"[1]"), "does not answer with a list, as a DICOMweb service would", True, None),
        (Reply(200, b"[{}]"), "answers with an item that has no UID", True, None),
        (Reply(302, headers={"Location": "http://127.0.0.1:1/"}), "leads to another place", True, None),
    ],
)
def test_a_refusal_says_what_to_change(
    web: Web, ask: Ask, reply: Reply, words: str, permanent: bool, retry_after: float | None
) -> None:
    web.reply = lambda request: reply
    with pytest.raises(AssociationFailed) as raised:
        list(ask().find(Wanted()))
    assert words in str(raised.value) and "secret" not in str(raised.value)
    assert (raised.value.permanent, raised.value.retry_after) == (permanent, retry_after)
    assert len(web.requests) == 1, "nothing is tried twice"


def test_an_answer_without_end_is_not_collected(web: Web, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.network.webget.ANSWER_BYTES", 1000)
    web.reply = lambda request: Reply(200, b" " * 1001)
    with pytest.raises(Refused, match="at once: ask for less"):
        list(ask().find(Wanted()))


def test_who_we_are_is_said_with_each_question(web: Web, shelf: Shelf, ask: Ask, tmp_path: Path) -> None:
    shelf.add(STUDY, object_of(STUDY))
    secret = tmp_path / "token"
    secret.write_text("abc\n")
    secret.chmod(0o600)
    source = ask(credentials=Credentials(token_file=secret))
    assert source.fetch(STUDY, Taken()).taken == source.count(STUDY) == 1
    assert {request.headers.get("Authorization") for request in web.requests} == {"Bearer abc"}
    secret.chmod(0o640)
    with pytest.raises(AssociationFailed, match="others can read this secret"):
        source.count(STUDY)
    web.reply = lambda request: Reply(401)
    secret.chmod(0o600)
    with pytest.raises(Refused, match="correct the user, password or token in this peer's settings here"):
        source.count(STUDY)


# --- fetch -------------------------------------------------------------------------------------------


@pytest.fixture
def objects(shelf: Shelf) -> dict[str, bytes]:
    shelf.add(STUDY, *(object_of(STUDY, size) for size in (300, 100_000, 20)))
    return shelf.objects[STUDY]


def test_a_study_comes_in_one_message_as_it_is_stored(web: Web, objects: dict[str, bytes], ask: Ask) -> None:
    taken = Taken()
    assert ask().fetch(STUDY, taken) == Fetched(3)
    assert taken.data == objects
    assert paths(web) == [f"/studies/{STUDY}"]
    assert web.requests[0].headers["Accept"] == 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.mark.parametrize("code", [400, 403, 404, 405, 406, 413, 500, 501])
def test_where_the_whole_study_is_refused_each_instance_is_asked_for(
    web: Web, shelf: Shelf, objects: dict[str, bytes], ask: Ask, code: int
) -> None:
    web.reply = lambda request: Reply(code) if paths(web)[-1] == f"/studies/{STUDY}" else shelf(request)
    taken = Taken()
    assert ask().fetch(STUDY, taken) == Fetched(3)
    assert taken.data == objects
    assert len([path for path in paths(web) if "/series/" in path]) == 3


@pytest.mark.parametrize("code", [401, 408, 429, 503])
def test_what_holds_for_every_question_ends_it(web: Web, shelf: Shelf, ask: Ask, code: int) -> None:
    web.reply = lambda request: Reply(code, headers={"Retry-After": "5"})
    with pytest.raises(Refused) as raised:
        ask().fetch(STUDY, Taken())
    assert (raised.value.code, raised.value.retry_after, len(web.requests)) == (code, 5, 1)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("cut", [0, 10, 700, 5000, 100_900, -5])
def test_what_arrived_stays_and_the_rest_is_asked_for(
    web: Web, shelf: Shelf, objects: dict[str, bytes], ask: Ask, cut: int, told: bool
) -> None:
    def breaks_off(request: Request) -> Reply:
        reply = shelf(request)
        if paths(web)[-1] == f"/studies/{STUDY}":
            reply.cut, reply.told = cut, told
        return reply

    web.reply = breaks_off
    taken = Taken()
    assert ask().fetch(STUDY, taken) == Fetched(3)
    assert taken.data == objects
    assert taken.calls == 3, "none twice"


def test_a_study_that_may_not_be_read_is_not_the_servers_end(web: Web, shelf: Shelf, ask: Ask) -> None:
    web.reply = lambda request: Reply(403)
    fetched = ask().fetch(STUDY, Taken())
    assert (fetched.taken, fetched.failed) == (0, 1)
    assert "answers 403 (Forbidden): allow this node to query and to retrieve there" in fetched.reason


def test_a_partial_answer_is_completed(web: Web, shelf: Shelf, objects: dict[str, bytes], ask: Ask) -> None:
    first = next(iter(objects.values()))
    web.reply = lambda r: multipart(first, code=206) if paths(web)[-1] == f"/studies/{STUDY}" else shelf(r)
    taken = Taken()
    assert ask().fetch(STUDY, taken) == Fetched(3)
    assert taken.calls == 3


def test_a_server_that_gives_objects_alone(web: Web, shelf: Shelf, objects: dict[str, bytes], ask: Ask) -> None:
    def alone(request: Request) -> Reply:
        uid = urlsplit(request.path).path.rpartition("/")[2]
        if uid in objects:
            return Reply(200, objects[uid], "application/dicom")
        return Reply(200, b"<html>", "text/html") if paths(web)[-1] == f"/studies/{STUDY}" else shelf(request)

    web.reply = alone
    taken = Taken()
    assert ask().fetch(STUDY, taken) == Fetched(3)
    assert taken.data == objects


def test_an_instance_that_the_server_cannot_give_is_said_and_the_others_come(
    web: Web, shelf: Shelf, objects: dict[str, bytes], ask: Ask
) -> None:
    lost, *others = objects
    broken: dict[str, Any] = {
        "gone": Reply(410),
        "no dicom": multipart(b"no DICOM"),
        "another": multipart(object_of("1.9", uid="1.9.9")),
        "html": Reply(200, b"<html>", "text/html"),
        "cut": multipart(objects[lost], cut=100),
        "empty": multipart(),
    }

    def answer(request: Request) -> Reply:
        where = paths(web)[-1]
        if where == f"/studies/{STUDY}":
            return Reply(400)
        return broken[case] if where.endswith(lost) else shelf(request)

    web.reply = answer
    said = {}
    for case in broken:
        taken = Taken()
        if case == "cut":
            with pytest.raises(AssociationFailed, match="ended the connection"):
                ask().fetch(STUDY, taken)
            continue
        fetched = ask().fetch(STUDY, taken)
        assert (fetched.failed, set(others) - set(taken.data)) == (1, set())
        said[case] = fetched.reason
    assert "answers 410 (Gone): it does not have it any more" in said["gone"]
    assert said["no dicom"] == "an object is no DICOM file"
    assert said["another"] == said["empty"] == "another instance came in its place"
    assert "answers with text/html in place of DICOM objects" in said["html"]


def test_a_study_that_is_not_there_is_nothing(web: Web, shelf: Shelf, ask: Ask) -> None:
    fetched = ask().fetch("1.9", Taken())
    assert (fetched.taken, fetched.failed) == (0, 0)
    assert fetched.reason == f"{web.url} has no such study"


def test_a_study_that_breaks_off_and_is_not_listed_is_not_complete(web: Web, ask: Ask) -> None:
    whole = multipart(object_of(STUDY), object_of(STUDY), cut=1200)
    web.reply = lambda request: whole if paths(web)[-1] == f"/studies/{STUDY}" else Reply(204, b"", "")
    fetched = ask().fetch(STUDY, Taken())
    assert (fetched.taken, fetched.failed) == (1, 1)
    assert "did not come whole" in fetched.reason and "lists no instances" in fetched.reason


def test_an_instance_that_is_too_long_is_named_and_asked_for_once_more_only(
    web: Web, objects: dict[str, bytes], ask: Ask
) -> None:
    taken = Taken()
    fetched = ask(limit=50_000).fetch(STUDY, taken)
    assert fetched == Fetched(2, 1, "an instance is longer than listener.instance_limit_mb allows")
    assert [uid for uid in objects if uid not in taken.data] == [paths(web)[-1].rpartition("/")[2]]


def test_what_is_not_taken_here_is_said_and_not_asked_for_again(web: Web, objects: dict[str, bytes], ask: Ask) -> None:
    taken = Taken()
    taken.status = Status(0xC000, "no patient")
    source = ask()
    assert source.fetch(STUDY, taken) == Fetched(0, 3, "not taken here: no patient")
    assert taken.calls == 3
    taken.status = Status(0x0000)
    assert source.fetch(STUDY, taken) == Fetched(3)


def test_a_full_disk_here_ends_the_fetch(web: Web, objects: dict[str, bytes], ask: Ask) -> None:
    taken = Taken()
    taken.status = Status(OUT_OF_RESOURCES)
    fetched = ask().fetch(STUDY, taken)
    assert (fetched.taken, fetched.failed, taken.calls) == (0, 1, 1)
    assert "out of resources" in fetched.reason


def test_a_study_that_is_fetched_again_is_asked_for_what_is_missing(
    web: Web, shelf: Shelf, objects: dict[str, bytes], ask: Ask
) -> None:
    def dies(request: Request) -> Reply | None:
        return multipart(*objects.values(), cut=1000) if paths(web)[-1] == f"/studies/{STUDY}" else None

    web.reply = dies
    source, taken = ask(), Taken()
    with pytest.raises(AssociationFailed, match="ended the connection"):
        source.fetch(STUDY, taken)
    assert taken.calls == 1
    web.reply = shelf
    web.requests.clear()
    assert source.fetch(STUDY, taken) == Fetched(2)
    assert (taken.calls, taken.data) == (3, objects)
    assert f"/studies/{STUDY}" not in paths(web)
    assert source.fetch(STUDY, taken) == Fetched(3), "what is complete is forgotten here, and may come again"


def test_what_is_here_already_is_not_fetched(web: Web, objects: dict[str, bytes], ask: Ask) -> None:
    here, *others = objects
    taken = Taken()
    assert ask(held=lambda study: [here] if study == STUDY else []).fetch(STUDY, taken) == Fetched(2)
    assert list(taken.data) == others


def test_an_object_comes_twice_in_one_message(web: Web, ask: Ask) -> None:
    one = object_of(STUDY)
    web.reply = lambda request: multipart(one, one)
    taken = Taken()
    assert ask().fetch(STUDY, taken) == Fetched(1)
    assert list(taken.data) == [uid_of(one)]


def test_what_take_raises_is_raised_and_leaves_nothing(web: Web, objects: dict[str, bytes], ask: Ask) -> None:
    def fails(_arrived: object) -> Status:
        raise SpoolError("full")

    with pytest.raises(SpoolError):
        ask().fetch(STUDY, fails)


def test_a_taker_that_is_slow_does_not_count_against_the_server(web: Web, objects: dict[str, bytes], ask: Ask) -> None:
    taken = Taken()

    def slowly(arrived: Any) -> Status:
        time.sleep(0.5)
        return taken(arrived)

    assert ask(timeout=0.3).fetch(STUDY, slowly) == Fetched(3)
    assert taken.calls == 3


def test_nothing_listening_says_so(ask: Ask) -> None:
    port = free_port()
    with pytest.raises(AssociationFailed, match=f"nothing listens at 127.0.0.1:{port}"):
        ask(f"http://127.0.0.1:{port}/dicom-web").fetch(STUDY, Taken())


def test_a_server_that_drips_or_falls_silent_does_not_hold_us(ask: Ask) -> None:
    server, accepted = socket.create_server(("127.0.0.1", 0)), []
    head = b'HTTP/1.1 200 OK\r\nContent-Type: multipart/related; boundary="b"\r\n\r\n--b\r\n\r\n'

    def serve(connection: socket.socket, pause: float) -> None:
        with connection, suppress(OSError):
            connection.sendall(head)
            for _ in range(100):
                connection.sendall(b"a")
                time.sleep(pause)

    def accept() -> None:
        with suppress(OSError):
            while True:
                accepted.append(server.accept()[0])
                pause = 0.05 if len(accepted) == 1 else 5
                threading.Thread(target=serve, args=[accepted[-1], pause], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    for _ in range(2):
        started = time.monotonic()
        source = ask(f"http://127.0.0.1:{server.getsockname()[1]}/d", timeout=0.5)
        with pytest.raises(AssociationFailed):
            source.fetch(STUDY, Taken())
        assert time.monotonic() - started < 4
    server.close()
