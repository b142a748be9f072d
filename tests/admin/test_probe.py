"""What `peer test` says of TLS, of what a peer takes, and of where it may come from: exact texts."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from profiled import EXPLICIT, StoreSCP
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from query_scp_made import QueryScp
from web_made import DICOM_JSON, Reply, Web

from config.settings import Settings
from node.admin import probe
from node.admin.probe import Probe
from node.admin.step import Step
from node.network import survey, tls
from node.network.standin import StandIn
from node.network.tls import Files, Identity

ROUTE = {"name": "chest", "when": {"Modality": ["CR"]}, "bundle": "cardiomegaly", "deliver_to": ["pacs"]}
SHADOW = {"name": "chest", "bundle": "cardiomegaly", "mode": "shadow"}


def probing(port: int, *, files: Files | None = None, route: Any = ROUTE, **peer: Any) -> Probe:
    said = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "proof": "none"} | peer
    values: dict[str, Any] = {"peer": [said], "route": [route], "deliver": {"timeout_seconds": 2}}
    if files:
        names = ("certificate", "key", "authorities")
        values["tls"] = dict(zip(names, files.all, strict=True))
    settings = Settings(**values)
    return Probe(settings, settings.peer[0])


def told(asked: Probe, name: str) -> Step:
    return {said.name: said for said in probe.ask(asked)}[name]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def secure() -> Iterator[Callable[[Files], int]]:
    """A PACS that answers C-ECHO over TLS."""
    servers: list[Any] = []

    def start(files: Files) -> int:
        ae = AE("PACS")
        ae.add_supported_context(Verification)
        server = ae.start_server(("127.0.0.1", 0), block=False, ssl_context=Identity(files).server())
        servers.append(server)
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()


def test_tls_is_told_with_its_profile_and_the_certificate(authority: Authority, secure: Callable[[Files], int]) -> None:
    theirs = authority.files("pacs")
    said = told(probing(secure(theirs), files=authority.files("node")), "tls")
    assert said.verdict == "ok"
    assert said.text == (
        "TLSv1.3 with TLS_AES_256_GCM_SHA384, as BCP 195 RFC 8996, 9325 asks for; its certificate is valid for 365 "
        f"more days, fingerprint {tls.fingerprint_of(theirs.certificate)}"
    )


def test_a_certificate_that_ends_soon_is_warned_about(authority: Authority, secure: Callable[[Files], int]) -> None:
    said = told(probing(secure(authority.files("pacs", days=9)), files=authority.files("node")), "tls")
    assert (said.verdict, said.change) == ("warn", "put a new certificate in its place there")


def test_a_certificate_that_nobody_here_believes(
    authority: Authority, secure: Callable[[Files], int], tmp_path: Path
) -> None:
    strange = Authority(tmp_path / "strange").files("pacs")
    asked = probing(port := secure(strange), files=authority.files("node"))
    said = told(asked, "tls")
    assert said.text.startswith(f'"PACS" at 127.0.0.1:{port} is not believed (')
    assert said.change == (
        "add its authority, or the certificate itself if it signed that itself, to the authorities of [tls] here"
    )
    assert told(asked, "echo").text == 'not tried, as "tls" failed'


def test_another_certificate_than_the_pinned_one(authority: Authority, secure: Callable[[Files], int]) -> None:
    theirs, port = authority.files("pacs"), 0
    said = told(probing(port := secure(theirs), files=authority.files("node"), fingerprint="ab" * 32), "tls")
    assert said.text == (
        f'"PACS" at 127.0.0.1:{port} shows a certificate with the fingerprint '
        f"{tls.fingerprint_of(theirs.certificate)}, not the one in its settings here"
    )
    assert said.change == "if it was renewed, correct fingerprint; if not, somebody else answers there"


@pytest.mark.dcmtk
def test_tls_with_a_peer_that_has_none(program: Callable[[str], str], authority: Authority, tmp_path: Path) -> None:
    plain = StoreSCP(program("storescp"), tmp_path / "plain")
    plain.start((str(SecondaryCaptureImageStorage), EXPLICIT))
    said = told(probing(plain.port, files=authority.files("node")), "tls")
    plain.stop()
    assert said.verdict == "fail"
    assert said.text in (
        f"127.0.0.1:{plain.port} takes the connection and does not speak TLS within 2 s",
        f'"PACS" at 127.0.0.1:{plain.port}: TLS was not agreed on (UNEXPECTED_EOF_WHILE_READING)',
        f'"PACS" at 127.0.0.1:{plain.port}: TLS was not agreed on (Connection reset by peer)',
    )
    assert "here" in said.change


def test_who_hangs_up_on_tls_perhaps_does_not_speak_it(authority: Authority) -> None:
    asked = probing(104, files=authority.files("node"))
    for error in (ConnectionResetError(104, "Connection reset by peer"), ssl.SSLEOFError(8, "EOF occurred")):
        said = asked.failure(error)
        assert said.said.startswith('"PACS" at 127.0.0.1:104: TLS was not agreed on (')
        assert said.advice.startswith("perhaps it does not speak TLS there: set tls = false in its settings here")


def test_a_peer_that_waits_for_plain_words(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = told(probing(port, files=authority.files("node")), "tls")
    assert said.text == f"127.0.0.1:{port} takes the connection and does not speak TLS within 2 s"
    assert said.change == "correct its port here, or see whether it has TLS there"


def test_a_peer_that_has_tls_and_is_called_in_plain(authority: Authority, secure: Callable[[Files], int]) -> None:
    asked = probing(port := secure(authority.files("pacs")))
    assert told(asked, "tls").text == "this peer is used without TLS: nothing is encrypted"
    asked.stopped = ""
    said = told(asked, "echo")
    assert said.text == f'"PACS" at 127.0.0.1:{port} closes the connection without an answer'
    assert said.change == "is that its DICOM port, without TLS, and is this machine's address allowed there?"


@pytest.mark.dcmtk
@pytest.mark.parametrize(
    ("taken", "results", "proof", "verdict", "text", "change"),
    [
        ((ComprehensiveSRStorage, SecondaryCaptureImageStorage), ["sr", "sc"], "none", "ok", None, ""),
        (
            (ComprehensiveSRStorage,),
            ["sr", "sc"],
            "none",
            "fail",
            "takes no Secondary Capture Image Storage, which routes make for it (sc)",
            'allow that there, or leave "sc" out of the results of [[peer]] pacs here',
        ),
        (
            (),
            ["sr"],
            "none",
            "fail",
            "takes no Comprehensive 3D SR Storage, which routes make for it (sr)",
            'allow one of them there, or let the peer have a picture: add "sc" to the results of the route here, and '
            "to those of [[peer]] pacs if it names any",
        ),
        (
            (ComprehensiveSRStorage,),
            ["sr"],
            "find",
            "warn",
            "offers no Query (C-FIND): that it keeps results stays unproven",
            'switch it on there for this node, or change proof = "find" in [[peer]] pacs here',
        ),
        (
            (ComprehensiveSRStorage,),
            ["sr"],
            "auto",
            "warn",
            "offers neither Storage Commitment nor Query (C-FIND): that it keeps results stays unproven",
            'switch one of them on there for this node, or set proof = "none" in [[peer]] pacs here',
        ),
    ],
)
def test_what_a_route_would_send_and_a_peer_does_not_take(
    program: Callable[[str], str],
    tmp_path: Path,
    taken: tuple[Any, ...],
    results: list[str],
    proof: str,
    verdict: str,
    text: str | None,
    change: str,
) -> None:
    scp = StoreSCP(program("storescp"), tmp_path / "scp")
    scp.start(*[(str(uid), EXPLICIT) for uid in taken])
    said = told(probing(scp.port, route=ROUTE | {"results": results}, proof=proof), "capabilities")
    scp.stop()
    assert (said.verdict, said.text) == (verdict, text or "takes all that routes send there")
    assert said.change == change
    table = dict(said.table)
    assert table["SR Comprehensive SR Storage"] == ("yes, in Explicit VR Little Endian" if taken else "no")
    assert table["Verification (C-ECHO)"] == "yes"


def test_a_file_of_the_peer_that_is_not_there_is_a_setting_to_correct() -> None:
    values = {"name": "web", "url": "http://127.0.0.1:9/dicom-web", "token_file": "/nonexistent/token"}
    settings = Settings(peer=[values], deliver={"timeout_seconds": 2})  # type: ignore[list-item,arg-type]
    steps = list(probe.ask(Probe(settings, settings.peer[0])))
    assert steps[0].text == "nothing listens at 127.0.0.1:9"
    assert steps[0].change == "start the service there, or correct url in the settings here"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/dicom-web"
        settings = Settings(peer=[values | {"url": url}])  # type: ignore[list-item]
        said = told(Probe(settings, settings.peer[0]), "echo")
    assert said.text == "/nonexistent/token: the secret cannot be read: No such file or directory"
    assert said.change == "correct it in the settings here"


@pytest.mark.parametrize(
    ("offers", "more", "verdict", "text", "change"),
    [
        ({}, {}, "ok", "can be asked for studies", ""),
        (
            {"get": False},
            {},
            "fail",
            "offers no C-GET: no study can be brought from it",
            'let this node retrieve there, or add "send" to may in [[peer]] pacs here: it offers C-MOVE',
        ),
        ({"get": False}, {"may": ["query", "send"]}, "ok", "can be asked for studies", ""),
        (
            {"get": False, "move": False},
            {"may": ["query", "send"]},
            "fail",
            "offers no C-GET and no C-MOVE: no study can be brought from it",
            "let this node retrieve there",
        ),
    ],
)
def test_what_is_needed_to_bring_studies_is_looked_for(
    offers: dict[str, bool], more: dict[str, Any], verdict: str, text: str, change: str
) -> None:
    pacs = QueryScp(**offers)  # type: ignore[arg-type]
    said = told(probing(pacs.port, route=SHADOW, **({"may": ["query"]} | more)), "capabilities")
    pacs.stop()
    assert (said.verdict, said.text, said.change) == (verdict, text, change)
    assert [name for name, _ in said.table] == list(survey.SERVICES), "nothing is ever sent there"


def test_a_peer_without_queries_can_be_asked_for_nothing(tmp_path: Path) -> None:
    pacs = StandIn(tmp_path / "pacs", ae_title="PACS")
    pacs.start()
    said = told(probing(pacs.port, route=SHADOW, may=["query"]), "capabilities")
    pacs.stop()
    assert said.text == (
        "offers no Query (C-FIND): no study can be found there; offers no C-GET: no study can be brought from it"
    )


@pytest.mark.parametrize(("api", "said"), [("dicomweb", "a search by QIDO-RS"), ("orthanc", "Orthanc's REST")])
def test_a_service_on_the_web_is_asked_by_what_it_speaks(api: str, said: str) -> None:
    web = Web()
    web.reply = lambda request: Reply(200, b"[]", "application/json" if api == "orthanc" else DICOM_JSON)
    settings = Settings(peer=[{"name": "web", "url": web.url, "api": api, "may": ["query"]}])
    steps = {one.name: one for one in probe.ask(Probe(settings, settings.peer[0]))}
    web.stop()
    assert steps["echo"].text.startswith(f"answers {said} in ")
    assert steps["capabilities"].text == ("a service on the web does not say what it takes or gives before it is asked")
    assert all(one.proven for one in steps.values())
