"""`overread peer add` and `remove`, as a person and as a script type them."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.settings import EXAMPLE, Settings, SettingsFileError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "overread.toml"
    path.write_text(EXAMPLE.read_text())
    return path


def added(file: Path) -> str:
    """What was added to the example; nothing else may have changed."""
    before, after = EXAMPLE.read_text().splitlines(), file.read_text().splitlines()
    rest = [line for line in after if line not in before]
    return "\n".join(rest)


def test_a_pacs_is_added_to_the_routes_that_deliver_to_it(file: Path, overread: Any) -> None:
    routes = ("--deliver-from", "chest-findings", "--deliver-from", "chest-abnormal")
    done = overread("peer", "add", "archive", "--ae-title", "ARCHIVE", "--host", "127.0.0.1", "--port", "4242", *routes)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        f'Wrote to {file}:\n[[peer]]\nname = "archive"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = 4242\n\n'
        "Results of chest-findings go to it.\nResults of chest-abnormal go to it.\n"
        "On the other side:\n"
        "  this node is AE title OVERREAD, host 127.0.0.1, port 11112\n"
        "  it must send its studies there, and call itself ARCHIVE\n"
        "  it must take Structured Reports and Secondary Captures from OVERREAD\n"
        '  where it is an Orthanc: "DicomModalities": {"overread": ["OVERREAD", "127.0.0.1", 11112]}\n'
        "A node that runs takes it up with `overread reload`.\n"
    )
    settings = Settings.load(file)
    assert [r.deliver_to for r in settings.route] == [["pacs", "archive"]] * 2
    assert overread("peer", "remove", "archive", "--from-routes").stdout == (
        f"Removed archive from {file}. A node that runs takes it up with `overread reload`.\n"
    )
    assert file.read_text() == EXAMPLE.read_text()


def test_a_modality_is_added_with_its_networks(file: Path, overread: Any) -> None:
    networks = ("--network", "127.0.0.0/8", "--network", "10.1.7.22")
    done = overread("peer", "add", "ct", "--ae-title", "CT1", "--may", "send", *networks, "--json")
    said = json.loads(done.stdout)
    assert said["peer"] == {
        "name": "ct",
        "ae_title": "CT1",
        "networks": ["127.0.0.0/8", "10.1.7.22"],
        "may": ["send"],
    }
    assert said["tell"][:2] == [
        "this node is AE title OVERREAD, host 127.0.0.1, port 11112",
        "it must send its studies there, and call itself CT1",
    ]


def test_files_of_secrets_are_named_from_the_settings_folder(file: Path, overread: Any, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    outside = Path("/etc/overread.token")
    for name, token in (("web", tmp_path / "keys" / "token"), ("other", outside)):
        done = overread("peer", "add", name, "--url", "https://pacs.hospital/dicom-web", "--token-file", token)
        assert done.exit_code == 0, done.stderr
        assert "it must take what this node sends by STOW-RS, from this machine's address" in done.stdout
    web, other = Settings.load(file).peer[-2:]
    assert 'token_file = "keys/token"' in file.read_text()
    assert (web.token_file, other.token_file) == (tmp_path / "keys" / "token", outside)


def test_what_is_only_asked_need_not_take_anything(file: Path, overread: Any) -> None:
    for name, api, by in (
        ("web", (), "by QIDO-RS and WADO-RS"),
        ("o", ("--api", "orthanc"), "by the REST API of Orthanc"),
    ):
        done = overread("peer", "add", name, "--url", "http://127.0.0.1:8042", "--may", "query", *api)
        assert done.exit_code == 0, done.stderr
        assert f"it must answer searches and give studies {by}, to this machine's address" in done.stdout
        assert "STOW-RS" not in done.stdout and "No route delivers" not in done.stdout
    assert Settings.load(file).peer[-1].api == "orthanc"


def test_a_peer_that_no_route_delivers_to_is_told(file: Path, overread: Any) -> None:
    done = overread("peer", "add", "a", "--ae-title", "A", "--host", "127.0.0.1", "--port", "104")
    words = "No route delivers to it yet: --deliver-from ROUTE, or deliver_to in the file."
    assert words in done.stdout.splitlines()
    with pytest.raises(SettingsFileError, match="api"):
        overread("peer", "add", "b", "--url", "http://a/b", "--api", "soap")


def test_all_that_a_peer_can_be_is_written(file: Path, overread: Any) -> None:
    words = "--ae-title Q --host 127.0.0.1 --port 1 --may receive,query --no-tls --result sr --result sc --proof find"
    done = overread("peer", "add", "q", *words.split())
    assert "it must answer searches (C-FIND) of OVERREAD" in done.stdout
    (q,) = Settings.load(file).peer[2:]
    assert (q.may, q.tls, q.results, q.proof) == (["receive", "query"], False, ["sr", "sc"], "find")


def test_behind_tls_the_other_port_is_told(file: Path, overread: Any) -> None:
    text = file.read_text().replace("#[tls]", "[tls]").replace('bind = "0.0.0.0"', 'bind = "127.0.0.1"', 1)
    file.write_text(text)
    done = overread("peer", "add", "a", "--ae-title", "A", "--host", "10.9.9.9", "--port", "104")
    assert "port 2762 with TLS" in done.stdout
    assert 'here, listener.bind = "127.0.0.1" lets nobody in from other machines: "0.0.0.0" does' in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "missing: NAME, --ae-title, --host, --port (on a terminal they are asked for)"),
        (["ct", "--may", "send"], "missing: --ae-title, --network (on a terminal they are asked for)"),
        (["--url", "http://a/b"], "missing: NAME (on a terminal they are asked for)"),
        (
            ["pacs", "--ae-title", "P", "--host", "127.0.0.1", "--port", "1"],
            "{file}: there is a [[peer]] named pacs already",
        ),
        (
            ["x", "--ae-title", "X", "--host", "x.hospital", "--port", "1"],
            '{file}: peer[2]: a peer that may "send" needs networks = ["10.1.2.3"], or a host that is an address: a '
            'name does not say where it sends from (or may = ["receive"])',
        ),
        (
            ["x", "--ae-title", "X", "--host", "127.0.0.1", "--port", "1", "--deliver-from", "y"],
            "{file}: there is no [[route]] named y (have: chest-findings, chest-abnormal)",
        ),
    ],
)
def test_what_is_not_enough_or_not_valid_changes_nothing(
    file: Path, overread: Any, arguments: list[str], words: str
) -> None:
    command = [sys.executable, "-m", "node.cli", "peer", "add", *arguments, "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert (done.returncode, done.stderr) == (2, words.format(file=file) + "\n")
    assert file.read_text() == EXAMPLE.read_text()


def test_a_person_at_a_terminal_is_asked_for_what_is_missing(file: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "node.cli", "peer", "add", "--port", "104", "--config", str(file)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    shown = ""

    def until(words: str) -> None:
        nonlocal shown
        while words not in shown:
            assert select.select([ours], [], [], 30)[0], shown
            shown += os.read(ours, 4096).decode()

    for question, answer in (
        ("What routes and commands call it (a-z 0-9 _ . -): ", "archive"),
        ("Its AE title (1 to 16 characters, as it is set up there): ", "SEVENTEEN_LETTERS"),
        ("an AE title is 1 to 16 printable ASCII characters without backslash", ""),
        ("Its AE title (1 to 16 characters, as it is set up there): ", "ARCHIVE"),
        ("Its host (an address such as 10.1.2.3, or a name): ", "127.0.0.1"),
    ):
        until(question)
        shown = shown.partition(question)[2]
        if answer:
            os.write(ours, f"{answer}\n".encode())
    until("overread reload")
    os.close(ours)
    assert process.wait(30) == 0
    assert added(file) == 'name = "archive"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"'


def test_a_peer_that_routes_name_stays(file: Path, overread: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "node.cli", "peer", "remove", "pacs", "--config", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (
        2,
        f"{file}: the peer pacs is named by the route chest-findings (deliver_to), chest-abnormal (deliver_to): "
        "--from-routes removes it there too\n",
    )
    assert json.loads(overread("peer", "remove", "xray-room-1", "--json").stdout) == {
        "file": str(file),
        "removed": "xray-room-1",
        "waiting": 0,
        "unproven": 0,
    }
