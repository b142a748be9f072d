"""What the commands about peers say of a destination with a url, and of what was negotiated."""

from __future__ import annotations

import json
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
    lines = overread("peers").stdout.splitlines()
    assert "SR as Comprehensive SR in Implicit VR Little Endian, SC yes (" in lines[0]
    assert lines[1].endswith("TLS no  only sends")
    assert lines[2].startswith(f"web  {web.url}  TLS no  SC no (")
    pacs, modality, other = map(json.loads, overread("peers", "--json").stdout.splitlines())
    assert pacs["takes"]["sr"] == {
        "taken": True,
        "at": house.now,
        "sop_class_uid": ComprehensiveSRStorage,
        "transfer_syntax_uid": IMPLICIT,
        "words": "as Comprehensive SR in Implicit VR Little Endian",
    }
    assert (modality["takes"], other["takes"]["sc"]["taken"]) == ({}, False)


def test_a_peer_that_was_never_asked_is_said_so(file: Path, overread: Any) -> None:
    assert overread("peers").stdout.splitlines()[0].endswith("TLS no  not asked yet")


def test_an_echo_to_a_url_is_a_search(secret: Path, overread: Any, web: Web) -> None:
    assert f"web ({web.url}) answered in" in overread("echo", "web").stdout
    said = json.loads(overread("echo", "web", "--json").stdout)
    assert (said["url"], said["answered"]) == (web.url, True)
    web.reply = lambda r: Reply(401)
    done = overread("echo", "web")
    assert done.exit_code == 1
    assert "correct the user, password or token in this peer's settings here" in done.stderr
    assert "canary" not in done.stderr


def test_files_go_to_a_url(secret: Path, overread: Any, web: Web, tmp_path: Path) -> None:
    done = overread("send", make_image(tmp_path / "a.dcm"), "--to", "web")
    assert (done.exit_code, done.stdout) == (0, "1 of 1 files stored at web\n")
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
