"""What the commands about peers say of a destination with a url, and of what was negotiated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import House, make_image
from profiled import EXPLICIT, IMPLICIT
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, SecondaryCaptureImageStorage
from web_made import Reply, Web

from config.settings import Settings
from node.admin.doctor_network import answers
from node.network.standin import StandIn
from node.storage import negotiated


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.stop()


@pytest.fixture
def secret(file: Path, web: Web) -> Path:
    """The settings' third peer is a service with a password."""
    text = f'[[peer]]\nname = "web"\nurl = "{web.url}"\nuser = "me"\npassword_file = "secret"\n'
    file.write_text(file.read_text() + text)
    path = file.with_name("secret")
    path.write_text("canary\n")
    path.chmod(0o600)
    return path


def test_peers_says_what_each_of_them_takes(secret: Path, house: House, overread: Any, web: Web) -> None:
    said = {
        (str(Comprehensive3DSRStorage), EXPLICIT): False,
        (str(ComprehensiveSRStorage), EXPLICIT): False,
        (str(ComprehensiveSRStorage), IMPLICIT): True,
        (str(SecondaryCaptureImageStorage), EXPLICIT): True,
    }
    negotiated.remember(house.store, "pacs", said, now=house.now)
    negotiated.remember(house.store, "web", {(str(SecondaryCaptureImageStorage), EXPLICIT): False}, now=house.now)
    text = overread("peer", "list").stdout
    assert "      takes SR as Comprehensive SR in Implicit VR Little Endian, SC yes (" in text
    assert "modality  MODALITY  TLS no  may send\n      no route names it\n" in text
    assert f"web  {web.url}  TLS no  may receive\n      takes SC no (" in text
    pacs, modality, other = map(json.loads, overread("peer", "list", "--json").stdout.splitlines())
    assert pacs["takes"]["sr"] == {
        "taken": True,
        "at": house.now,
        "sop_class_uid": ComprehensiveSRStorage,
        "transfer_syntax_uid": IMPLICIT,
        "words": "as Comprehensive SR in Implicit VR Little Endian",
    }
    assert (modality["takes"], other["takes"]["sc"]["taken"]) == ({}, False)


def test_a_peer_that_was_never_asked_is_said_so(file: Path, overread: Any) -> None:
    first, second, third = overread("peer", "list").stdout.splitlines()[:3]
    assert first.startswith("pacs  PACS at 127.0.0.1:") and first.endswith("  TLS no  may send, receive")
    assert (second, third) == ("      takes: not asked yet", "      results of chest")


def test_a_node_without_peers_says_so(file: Path, overread: Any) -> None:
    file.write_text(file.read_text().partition("[[peer]]")[0])
    said = "no [[peer]] in the settings: only this machine may associate; `overread peer add` adds one\n"
    assert overread("peer", "list").stdout == said


def test_an_echo_is_remembered(file: Path, overread: Any, pacs: StandIn) -> None:
    assert overread("peer", "echo", "pacs").exit_code == 0
    said = overread("peer", "list").stdout
    assert re.search(r"^      last echo just now, answered in \d+ ms$", said, re.MULTILINE)
    pacs.stop()
    assert overread("peer", "echo", "pacs").exit_code == 1
    said = json.loads(overread("peer", "list", "--json").stdout.splitlines()[0])
    assert (said["echo"]["answered"], said["echo"]["seconds"]) == (False, None)
    assert f"      last echo just now, {said['echo']['error']}\n" in overread("peer", "list").stdout


def test_everybody_who_has_a_place_is_asked(secret: Path, overread: Any, web: Web) -> None:
    done = overread("peer", "echo", "--all")
    assert done.exit_code == 0
    assert re.sub(r"\d+ ms|:\d+", "N", done.stdout) == (
        f"pacs (PACS at 127.0.0.1N) answered in N\nweb ({re.sub(r':[0-9]+', 'N', web.url)}) answered in N\n"
        "modality: it only sends, and the settings have no host and port of it, so it cannot be asked\n"
    )
    web.reply = lambda r: Reply(401)
    done = overread("peer", "echo", "--all")
    (failure,) = done.stderr.splitlines()
    assert failure.startswith(f"web: {web.url} ")
    done = overread("peer", "echo", "--all", "--json")
    said = {s["peer"]: s["answered"] for s in map(json.loads, done.stdout.splitlines())}
    assert (done.exit_code, said) == (1, {"pacs": True, "web": False, "modality": None})


def test_who_only_sends_cannot_be_asked_and_an_echo_needs_a_name(overread: Any) -> None:
    done = overread("peer", "echo", "modality")
    words = "it only sends, and the settings have no host and port of it, so it cannot be asked\n"
    assert (done.exit_code, done.stderr) == (2, "modality: " + words)
    for arguments in ([], ["pacs", "--all"]):
        done = overread("peer", "echo", *arguments)
        assert (done.exit_code, done.stderr) == (2, "ask whom? Give one of PEER and --all\n")


def test_an_answer_counts_where_the_data_folder_cannot_be_used(file: Path, overread: Any) -> None:
    (file.parent / "data").write_text("a file in its place")
    done = overread("peer", "echo", "pacs")
    assert done.exit_code == 0 and "answered in" in done.stdout
    assert done.stderr.startswith("what was answered is not remembered: ")


def test_an_echo_to_a_url_is_a_search(secret: Path, overread: Any, web: Web) -> None:
    assert f"web ({web.url}) answered in" in overread("peer", "echo", "web").stdout
    said = json.loads(overread("peer", "echo", "web", "--json").stdout)
    assert (said["url"], said["answered"]) == (web.url, True)
    web.reply = lambda r: Reply(401)
    done = overread("peer", "echo", "web")
    assert done.exit_code == 1
    assert "correct the user, password or token in this peer's settings here" in done.stderr
    assert "canary" not in done.stderr


def test_a_peer_that_is_only_asked(file: Path, overread: Any, web: Web, tmp_path: Path) -> None:
    url = web.url.removesuffix("/dicom-web")
    text = file.read_text()
    file.write_text(f'{text}[[peer]]\nname = "public"\nurl = "{url}"\napi = "orthanc"\n')
    web.reply = lambda r: Reply(200, b"[]", "application/json") if r.path.startswith("/studies?") else Reply(404)
    assert f"public ({url}) answered in" in overread("peer", "echo", "public").stdout
    assert f"public  {url}  TLS no  may query" in overread("peer", "list").stdout
    done = overread("send", make_image(tmp_path / "a.dcm"), "--to", "public")
    assert done.exit_code == 2
    assert 'public: this peer may only "query", so nothing is sent to it' in done.stderr
    settings = Settings.load(file)
    assert "answered in" in answers(settings, settings.peer[-1]).text
    assert len(web.requests) == 2


def test_files_go_to_a_url(secret: Path, overread: Any, web: Web, tmp_path: Path) -> None:
    done = overread("send", make_image(tmp_path / "a.dcm"), "--to", "web")
    assert (done.exit_code, done.stdout) == (0, "1 of 1 file stored at web\n")
    assert web.requests[0].part == (tmp_path / "a.dcm").read_bytes()


def test_check_asks_a_url_too_and_warns_of_a_secret_in_plain(secret: Path, file: Path, web: Web) -> None:
    settings = Settings.load(file)
    peer = settings.peer_named("web")
    assert peer is not None
    said = answers(settings, peer)
    assert (said.verdict, "the secret crosses the network in plain" in said.text) == ("warn", True)
    secret.chmod(0o644)
    said = answers(settings, peer)
    assert (said.verdict, "others can read this secret: chmod 600" in said.text) == ("fail", True)
    secret.chmod(0o600)
    web.reply = lambda r: Reply(404)
    assert "it is what comes before /studies" in answers(settings, peer).text
