"""STOW-RS against a server whose answers the test decides, over real HTTP and TLS."""

from __future__ import annotations

import base64
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage, ExplicitVRLittleEndian
from web_made import DICOM_JSON, Reply, Request, Web, failed, module, stored, uid_in

from node.domain import Pair
from node.errors import AssociationFailed, SettingsError
from node.network.offer import Offers
from node.network.orthanc import free_port
from node.network.statuses import Outcome
from node.network.stow import WebSender
from node.network.weblink import Credentials

MakeFile = Callable[..., Path]


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.stop()


@pytest.fixture
def to() -> Iterator[Callable[..., WebSender]]:
    made: list[WebSender] = []

    def make(url: str, *, timeout: float = 5.0, **more: Any) -> WebSender:
        made.append(WebSender(url, timeout=timeout, **more))
        return made[-1]

    yield make
    for sender in made:
        sender.close()


To = Callable[..., WebSender]


def outcomes(sender: WebSender, *paths: Path) -> list[Outcome]:
    return [outcome for _, outcome in sender.send(paths)]


def test_the_stored_bytes_arrive_unaltered(web: Web, to: To, make_file: MakeFile) -> None:
    path = make_file(300_001)
    assert outcomes(to(web.url), path) == [Outcome(0x0000, "", "stored")]
    (request,) = web.requests
    assert request.part == path.read_bytes()
    assert (request.path, request.headers["Accept"]) == ("/dicom-web/studies", DICOM_JSON)
    assert request.headers["Host"] == f"127.0.0.1:{web.port}"
    assert "Authorization" not in request.headers and "Transfer-Encoding" not in request.headers


def test_many_objects_go_over_one_connection(web: Web, to: To, make_file: MakeFile) -> None:
    sender = to(web.url)
    assert sender.idle_seconds == 0
    paths = [make_file() for _ in range(5)]
    assert [path for path, _ in sender.send(paths)] == paths
    assert web.connections == 1
    assert 0 <= sender.idle_seconds < 5
    sender.close()
    assert sender.idle_seconds == 0
    assert [o.kind for o in outcomes(sender, paths[0])] == ["stored"]
    assert web.connections == 2


def test_what_is_not_wanted_any_more_is_left_out(web: Web, to: To, make_file: MakeFile) -> None:
    paths = [make_file(), make_file()]
    assert [path for path, _ in to(web.url).send(paths, wanted=lambda path: path == paths[1])] == [paths[1]]
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    ("reply", "kind", "status", "words"),
    [
        (failed(0xA700), "retry", 0xA700, "answered 0xA700, out of resources"),
        (failed(0xA700, 202), "retry", 0xA700, "answered 0xA700, out of resources"),
        (failed(0x0110, 200), "retry", 0x0110, "processing failure"),
        (failed(0xA900), "permanent", 0xA900, "data set does not match SOP class"),
        (failed(0xC000), "permanent", 0xC000, "cannot understand"),
        (failed(0x0111), "warning", 0x0111, "duplicate SOP instance"),
        (failed(0xB007), "permanent", 0xB007, "names the object as failed, with reason 0xB007"),
        (failed(0x0122), "retry", 0x0122, "SOP class not supported"),
        (failed(0xC122), "retry", 0x0122, "transfer syntax not supported"),
        (
            lambda r: Reply(202, module("00081199", uid_in(r), _00081196=0xB000)),
            "warning",
            0xB000,
            "coercion of data elements",
        ),
        (lambda r: Reply(202, module("00081199", "1.2.3")), "permanent", None, "202 and does not name the object"),
        (lambda r: Reply(202, b""), "permanent", None, "202 and does not name the object"),
        (lambda r: Reply(200, b"{}"), "warning", 0x0000, "200 and does not name the object"),
        (lambda r: Reply(200, b"", ""), "warning", 0x0000, "200 and does not name the object"),
        (lambda r: Reply(200, b"<html>", "text/html"), "permanent", None, "text/html, not as a DICOMweb service"),
        (lambda r: Reply(200, b"{", DICOM_JSON), "permanent", None, "broken application/dicom+json"),
        (lambda r: Reply(409, b"", ""), "permanent", None, "answers 409 (Conflict)"),
        (lambda r: Reply(409, b"[[1]]"), "permanent", None, "answers 409 (Conflict)"),
        (lambda r: Reply(400, b""), "permanent", None, "answers 400 (Bad Request): see its log"),
        (lambda r: Reply(401, b""), "permanent", None, "give user with password_file, or token_file"),
        (lambda r: Reply(403, b""), "permanent", None, "allow this node to store there"),
        (lambda r: Reply(404, b""), "permanent", None, "correct url in this peer's settings here"),
        (lambda r: Reply(415, b""), "permanent", None, "let it take application/dicom by STOW-RS there"),
        (lambda r: Reply(429, b""), "retry", None, "it is busy"),
        (lambda r: Reply(500, b"secret stack trace", "text/plain"), "retry", None, "answers 500"),
        (lambda r: Reply(503, b""), "retry", None, "answers 503 (Service Unavailable)"),
        (
            lambda r: Reply(301, b"", headers={"Location": "http://127.0.0.1:1/"}),
            "permanent",
            None,
            "leads to another place",
        ),
    ],
)
def test_the_answer_decides(
    web: Web, to: To, make_file: MakeFile, reply: Any, kind: str, status: int | None, words: str
) -> None:
    web.reply = reply
    (outcome,) = outcomes(to(web.url), make_file())
    assert (outcome.kind, outcome.status) == (kind, status)
    assert words in outcome.error
    assert "secret" not in outcome.error
    assert len(web.requests) == 1, "nothing is tried twice"


def test_a_media_type_may_have_parameters(web: Web, to: To, make_file: MakeFile) -> None:
    web.reply = lambda r: Reply(200, stored(r).body, "application/dicom+json; charset=UTF-8")
    assert outcomes(to(web.url), make_file()) == [Outcome(0x0000, "", "stored")]


def test_an_answer_about_one_object_spares_the_next_and_one_about_all_does_not(
    web: Web, to: To, make_file: MakeFile
) -> None:
    web.reply = failed(0xA900)
    assert [o.kind for o in outcomes(to(web.url), make_file(), make_file())] == ["permanent", "permanent"]
    assert len(web.requests) == 2
    web.reply = lambda r: Reply(503)
    assert [o.kind for o in outcomes(to(web.url), make_file(), make_file())] == ["retry", "retry"]
    assert len(web.requests) == 3


def test_a_form_that_is_not_supported_gives_way_to_the_next(web: Web, to: To, make_file: MakeFile) -> None:
    path = make_file(sop_class=ComprehensiveSRStorage)
    other = make_file(sop_class=EnhancedSRStorage)
    first, second = (
        (str(ComprehensiveSRStorage), str(ExplicitVRLittleEndian)),
        (str(EnhancedSRStorage), str(ExplicitVRLittleEndian)),
    )
    web.reply = lambda r: failed(0x0122)(r) if r.part == path.read_bytes() else stored(r)
    told: dict[Pair, bool] = {}
    offers = Offers(
        of=lambda _path: (first, second),
        make=lambda _path, form: path if form == first else other,
        told=lambda said: told.update(said),
    )
    ((sent, outcome),) = to(web.url).send([path], offers=offers)
    assert (sent, outcome.kind, outcome.form) == (path, "stored", second)
    assert told == {first: False, second: True}


def test_a_connection_that_the_service_ended_while_it_was_kept_is_opened_again(
    web: Web, to: To, make_file: MakeFile
) -> None:
    sender = to(web.url)
    outcomes(sender, make_file())
    seen = iter([None])
    web.reply = lambda r: next(seen, stored(r))
    assert [o.kind for o in outcomes(sender, make_file())] == ["stored"]
    assert len(web.requests) == 3


def test_nothing_listening_is_tried_again_later_and_asked_once(to: To, make_file: MakeFile) -> None:
    port = free_port()
    result = outcomes(to(f"http://127.0.0.1:{port}/dicom-web"), make_file(), make_file())
    assert [o.kind for o in result] == ["retry", "retry"]
    assert f"nothing listens at 127.0.0.1:{port}" in result[0].error


def test_a_service_that_hangs_up_is_tried_again_later(web: Web, to: To, make_file: MakeFile) -> None:
    web.reply = lambda r: None
    (outcome,) = outcomes(to(web.url), make_file())
    assert (outcome.kind, outcome.status) == ("retry", None)
    assert "ended the connection" in outcome.error


def test_a_service_that_stalls_does_not_hold_us(web: Web, to: To, make_file: MakeFile) -> None:
    done = threading.Event()

    def stall(_request: Request) -> None:
        done.wait(20)

    web.reply = stall
    started = time.monotonic()
    (outcome,) = outcomes(to(web.url, timeout=0.3), make_file())
    done.set()
    assert time.monotonic() - started < 3
    assert outcome.kind == "retry" and "does not answer in time" in outcome.error


def test_a_service_that_drips_its_answer_does_not_hold_us(to: To, make_file: MakeFile) -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = server.accept()
        with connection:
            try:
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.1)
            except OSError:
                return

    threading.Thread(target=drip, daemon=True).start()
    started = time.monotonic()
    (outcome,) = outcomes(to(f"http://127.0.0.1:{server.getsockname()[1]}/d", timeout=0.5), make_file())
    server.close()
    assert time.monotonic() - started < 4
    assert outcome.kind == "retry" and "does not answer in time" in outcome.error


def test_an_endless_answer_is_not_collected(web: Web, to: To, make_file: MakeFile, monkeypatch: Any) -> None:
    monkeypatch.setattr("node.network.dicomweb.ANSWER_BYTES", 1000)
    web.reply = lambda r: Reply(200, b" " * 1001)
    (outcome,) = outcomes(to(web.url), make_file())
    assert outcome.kind == "retry"


def test_files_that_cannot_be_sent_are_outcomes(web: Web, to: To, tmp_path: Path, make_file: MakeFile) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("no data set")
    result = outcomes(to(web.url), tmp_path / "gone.dcm", text, make_file())
    assert [o.kind for o in result] == ["permanent", "permanent", "stored"]


# --- who we are ----------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, *, mode: int = 0o600) -> Path:
        path = tmp_path / "secret"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    return write


def test_a_user_and_password_are_sent_and_taken_up_when_they_change(
    web: Web, to: To, make_file: MakeFile, secret: Callable[..., Path]
) -> None:
    sender = to(web.url, credentials=Credentials("jürgen", password_file=secret("päss:wörd\n")))
    outcomes(sender, make_file())
    secret("new\n")
    outcomes(sender, make_file())
    shown = [base64.b64decode(r.headers["Authorization"].removeprefix("Basic ")).decode() for r in web.requests]
    assert shown == ["jürgen:päss:wörd", "jürgen:new"]


def test_a_token_is_sent(web: Web, to: To, make_file: MakeFile, secret: Callable[..., Path]) -> None:
    outcomes(to(web.url, credentials=Credentials(token_file=secret("abc.def\n"))), make_file())
    assert web.requests[0].headers["Authorization"] == "Bearer abc.def"


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("canary", 0o640, "others can read this secret: chmod 600"),
        ("canary", 0o604, "others can read this secret: chmod 600"),
        ("", 0o600, "one line of printable characters"),
        ("canary\nsecond", 0o600, "one line of printable characters"),
        ("canary token", 0o600, "a token is printable ASCII without spaces"),
    ],
)
def test_a_secret_that_is_no_secret_is_refused_without_repeating_it(
    secret: Callable[..., Path], text: str, mode: int, words: str
) -> None:
    with pytest.raises(SettingsError, match=words) as refused:
        WebSender("http://127.0.0.1/d", timeout=1, credentials=Credentials(token_file=secret(text, mode=mode)))
    assert "canary" not in str(refused.value)


def test_a_secret_that_went_away_is_tried_again_later(
    web: Web, to: To, make_file: MakeFile, secret: Callable[..., Path]
) -> None:
    path = secret("abc")
    sender = to(web.url, credentials=Credentials(token_file=path))
    path.unlink()
    (outcome,) = outcomes(sender, make_file())
    assert outcome.kind == "retry" and "the secret cannot be read" in outcome.error
    assert web.requests == []


def test_a_refused_secret_is_in_no_error_and_no_log(
    web: Web, to: To, make_file: MakeFile, secret: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    web.reply = lambda r: Reply(401)
    sender = to(web.url, credentials=Credentials("me", password_file=secret("canary")))
    (outcome,) = outcomes(sender, make_file())
    assert "correct the user, password or token in this peer's settings here" in outcome.error
    hidden = base64.b64encode(b"me:canary").decode()
    assert "canary" not in caplog.text + outcome.error and hidden not in caplog.text


def test_the_environment_changes_nothing(
    web: Web, to: To, make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert [o.kind for o in outcomes(to(web.url), make_file())] == ["stored"]
    assert "Authorization" not in web.requests[0].headers


# --- https ---------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def test_a_certificate_is_believed_by_its_authority_and_by_nothing_else(
    web: Web, to: To, make_file: MakeFile, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.secure(authority.files("web"))
    # What requests would believe without a word
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.path))
    (outcome,) = outcomes(to(web.url), make_file())
    assert outcome.kind == "retry" and "is not believed" in outcome.error
    assert "give the file of its authority as authorities of this peer here" in outcome.error
    assert web.requests == []
    (outcome,) = outcomes(to(web.url, authorities=authority.path), make_file())
    assert outcome.kind == "stored"


def test_a_certificate_for_another_name_is_not_believed(
    web: Web, to: To, make_file: MakeFile, authority: Authority
) -> None:
    web.secure(authority.files("web", host="pacs.hospital"))
    (outcome,) = outcomes(to(web.url, authorities=authority.path), make_file())
    assert "is not believed" in outcome.error and "give the certificate's name in url here" in outcome.error
    assert web.requests == []


def test_plain_http_at_a_port_for_https_says_so(web: Web, to: To, make_file: MakeFile) -> None:
    (outcome,) = outcomes(to(web.url.replace("http:", "https:")), make_file())
    assert outcome.kind == "retry" and "is that its port for https?" in outcome.error


def test_a_file_of_authorities_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    with pytest.raises(SettingsError, match="no PEM file of authorities"):
        WebSender("https://a/d", timeout=1, authorities=file)
    file.write_text("nothing")
    with pytest.raises(SettingsError, match="no PEM file of authorities"):
        WebSender("https://a/d", timeout=1, authorities=file)


# --- echo ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [Reply(200, b"[]"), Reply(200, b'[{"00100010": {}}]'), Reply(204, b"", "")])
def test_an_echo_is_a_search_for_one_study(web: Web, to: To, reply: Reply) -> None:
    web.reply = lambda r: reply
    assert 0 < to(web.url).echo() < 5
    (request,) = web.requests
    assert request.path.startswith("/dicom-web/studies?") and "limit=1" in request.path


@pytest.mark.parametrize(
    ("reply", "words", "permanent"),
    [
        (Reply(401), "give user with password_file", True),
        (Reply(404), "correct url in this peer's settings here", True),
        (Reply(503), "answers 503", False),
        (Reply(200, b"<html>", "text/html"), "not as a DICOMweb service", True),
    ],
)
def test_an_echo_that_fails_says_what_to_change(web: Web, to: To, reply: Reply, words: str, permanent: bool) -> None:
    web.reply = lambda r: reply
    with pytest.raises(AssociationFailed, match=words) as failure:
        to(web.url).echo()
    assert failure.value.permanent is permanent


def test_an_echo_to_nobody_says_so(to: To) -> None:
    with pytest.raises(AssociationFailed, match="nothing listens"):
        to(f"http://127.0.0.1:{free_port()}/d").echo()
    with pytest.raises(AssociationFailed, match=r'the host name "pacs\.invalid" is not known here'):
        to("http://pacs.invalid/d").echo()
