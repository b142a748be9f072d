"""`overread peer test` against real peers: those that are right in all, and those that are wrong in one thing each."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from profiled import EXPLICIT, StoreSCP
from pydicom.uid import SecondaryCaptureImageStorage
from running import RunningNode

from node.admin.reconcile import reconcile
from node.network.orthanc import Orthanc, free_port
from node.storage import negotiated, schema, studies

pytestmark = [pytest.mark.orthanc, pytest.mark.dcmtk, pytest.mark.slow]

PEER = """
[[peer]]
name = "{name}"
ae_title = "{title}"
host = "{host}"
port = {port}
networks = ["127.0.0.1"]
may = {may}
proof = "{proof}"
"""
WEB = """
[[peer]]
name = "web"
url = "http://127.0.0.1:{http}/dicom-web"
"""
ROUTES = """
[[route]]
name = "chest"
when = { Modality = ["CR", "DX"] }
from_peers = ["modality"]
bundle = "chest-findings"
deliver_to = ["pacs", "web", "astray", "small", "abrupt", "closed", "nowhere", "stranger"]

[[route]]
name = "quiet"
when = { Modality = ["CT"] }
bundle = "chest-findings"
deliver_to = ["pacs"]
mode = "shadow"
"""
Said = dict[str, dict[str, Any]]


class Abrupt:
    """Takes connections and hangs up on each as soon as something comes."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            connection.recv(1)
            connection.sendall(b"\x07\0\0\0\0\4\0\0\2\0")  # A-ABORT (PS3.8 9.3.8)
            connection.close()

    def close(self) -> None:
        self._server.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trial")


@pytest.fixture(scope="module")
def orthancs(program: Callable[[str], str], dicomweb: Path, folder: Path) -> Iterator[dict[str, Orthanc]]:
    program("Orthanc")
    port = free_port()
    options: dict[str, dict[str, Any]] = {
        "pacs": {"Plugins": [str(dicomweb)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}},
        "astray": {"DicomAet": "ASTRAY", "DicomModalities": {"node": ["OVERREAD", "127.0.0.1", free_port()]}},
        "stranger": {"DicomAet": "STRANGER", "DicomModalities": {}},
        "idle": {"DicomAet": "IDLE"},
    }
    made = {}
    for name, more in options.items():
        (folder / name).mkdir()
        made[name] = Orthanc(folder / name, node_ae_title="OVERREAD", node_port=port, **more)
    for orthanc in made.values():
        orthanc.start()
    yield made
    for orthanc in made.values():
        orthanc.stop()


@pytest.fixture(scope="module")
def small(program: Callable[[str], str], folder: Path) -> Iterator[StoreSCP]:
    made = StoreSCP(program("storescp"), folder / "small")
    made.start((str(SecondaryCaptureImageStorage), EXPLICIT))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def node(orthancs: dict[str, Orthanc], small: StoreSCP, folder: Path) -> Iterator[RunningNode]:
    pacs, abrupt = orthancs["pacs"], Abrupt()
    places = {
        "astray": ("ASTRAY", "127.0.0.1", orthancs["astray"].port),
        "stranger": ("STRANGER", "127.0.0.1", orthancs["stranger"].port),
        "idle": ("IDLE", "127.0.0.1", orthancs["idle"].port),
        "small": ("SMALL", "127.0.0.1", small.port),
        "abrupt": ("ABRUPT", "127.0.0.1", abrupt.port),
        "closed": ("CLOSED", "127.0.0.1", free_port()),
        "nowhere": ("NOWHERE", "pacs.invalid", 104),
    }
    text = WEB.format(http=pacs.http)
    for name, (title, host, port) in places.items():
        may = ["receive"] if name in ("small", "closed", "nowhere") else ["send", "receive"]
        text += PEER.format(name=name, title=title, host=host, port=port, may=json.dumps(may), proof="auto")
    made = RunningNode(
        folder / "node", (pacs.ae_title, pacs.port), port=pacs.node_port, route=text + ROUTES, stub=True, proof="auto"
    )
    made.start()
    yield made
    made.stop()
    abrupt.close()


def start(node: RunningNode, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "node.cli", "peer", "test", *arguments, "--json", "--config", str(node.file)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, Said]:
    out, err = process.communicate(timeout=120)
    lines = [json.loads(line) for line in out.splitlines()]
    said = {line["step"]: line for line in lines if line["verdict"] != "waiting"}
    assert said, err
    return process.returncode, said


def verdicts(said: Said) -> dict[str, str]:
    return {name: line["verdict"] for name, line in said.items()}


def leaves_nothing(node: RunningNode) -> None:
    """No row and no file of a test, and no trace of it in what is counted."""
    assert studies.latest(node.parts.store, 10) == []
    with node.parts.store.read() as connection:
        for table in (schema.job, schema.result, schema.delivery, schema.instance, schema.event, schema.form):
            assert connection.execute(table.select()).all() == []
    assert reconcile(node.parts.store, since=0, until=time.time() + 60, now=time.time()) == []
    assert not list((node.folder / "data" / "spool").rglob("*.dcm"))
    assert not list((node.folder / "data" / "spool" / "notes").rglob("*.json"))
    assert node.problems() == []


def uids_at(orthanc: Orthanc) -> list[str]:
    return [orthanc.get(f"/instances/{i}/tags?simplify")["PatientID"] for i in orthanc.get("/instances")]


def test_a_pacs_that_knows_us_proves_everything(node: RunningNode, orthancs: dict[str, Orthanc]) -> None:
    code, said = ended(start(node, "pacs", "--yes"))
    assert code == 0, said
    # Orthanc as packaged waits for acknowledgements
    assert verdicts(said) == {
        "connect": "ok",
        "tls": "skipped",
        "echo": "warn",
        "capabilities": "ok",
        "study": "ok",
        "result": "ok",
        "store": "ok",
        "proof": "ok",
        "inbound": "ok",
        "clean-up": "ok",
    }
    assert said["echo"]["change"] == "set TCP_NODELAY=1 in its environment there, as for every program made with DCMTK"
    assert said["proof"]["text"] == "pacs proved that it keeps 2 results: storage commitment"
    assert said["inbound"]["text"] == "pacs sent 2 objects of the test study back by C-MOVE"
    assert said["capabilities"]["table"]["Retrieve (C-MOVE, Study Root)"] == "yes"
    uid = said["study"]["text"].rpartition("Study Instance UID ")[2]
    there = f"delete there patient OVERREAD-TEST, Study Instance UID {uid}"
    assert said["clean-up"]["text"] == f"nothing of the test is left here; at pacs is left what was stored: {there}"
    assert len(orthancs["pacs"].instances(uid)) == 2 and set(uids_at(orthancs["pacs"])) == {"OVERREAD-TEST"}
    # nobody else got anything, although the same route delivers to him
    assert uids_at(orthancs["astray"]) == []
    assert negotiated.known(node.parts.store, "pacs")
    leaves_nothing(node)


def test_the_same_pacs_by_its_url(node: RunningNode) -> None:
    code, said = ended(start(node, "web", "--yes"))
    assert code == 0, said
    assert verdicts(said) | {"echo": "ok", "store": "ok", "proof": "ok"} == verdicts(said)
    assert said["proof"]["text"] == "web proved that it keeps 2 results: read back by QIDO-RS"
    assert said["inbound"]["text"] == 'web may only "receive"'
    leaves_nothing(node)


def test_a_pacs_that_does_not_know_us_is_told_whom_to_add(node: RunningNode) -> None:
    code, said = ended(start(node, "stranger", "--yes", "--wait", "1"))
    assert code == 1
    port = node.settings.peer_named("stranger").port  # type: ignore[union-attr]
    assert said["echo"]["text"] == (
        f'"STRANGER" at 127.0.0.1:{port} rejects the association permanently: calling AE title not recognised'
    )
    assert said["echo"]["change"] == (
        'add "OVERREAD" with this machine\'s address to the known AE titles there, or correct ae_title in [node] here'
    )
    assert said["capabilities"]["text"] == said["store"]["text"] == 'not tried, as "echo" failed'
    assert said["result"]["verdict"] == "ok"
    assert said["inbound"]["text"] == "nothing came from stranger within 1 s"
    leaves_nothing(node)


def test_a_pacs_that_has_our_port_wrong_cannot_send_back_and_that_is_to_be_mended_there(node: RunningNode) -> None:
    code, said = ended(start(node, "astray", "--yes", "--wait", "8"))
    assert code == 1
    us = f'"OVERREAD" with this machine\'s address and port {node.port}'
    assert said["store"]["verdict"] == "ok"
    # its reports go to the wrong port too
    assert said["proof"]["text"] == (
        "astray has not proven within 8 s that it keeps the results "
        "(waiting for astray to prove that it keeps 2 results)"
    )
    assert said["proof"]["change"] == (
        f"let its reports on Storage Commitment come to {us}, or let it answer queries (C-FIND), there; or change "
        "proof in [[peer]] astray here"
    )
    assert said["inbound"]["text"] == (
        "astray could not send the test study here: the C-MOVE was answered 0xC000, cannot understand"
    )
    assert said["inbound"]["change"] == f"see there that it knows {us}, and that no firewall is between"
    leaves_nothing(node)


def test_a_pacs_that_takes_pictures_only_gets_the_picture(node: RunningNode, small: StoreSCP) -> None:
    code, said = ended(start(node, "small", "--yes", "--wait", "10"))
    assert code == 1  # it proves nothing
    assert said["capabilities"]["verdict"] == "warn"
    assert said["capabilities"]["text"] == (
        "takes no Comprehensive 3D SR Storage, which routes make for it (sr); its sc says the same; offers neither "
        "Storage Commitment nor Query (C-FIND): that it keeps results stays unproven"
    )
    assert said["capabilities"]["change"].endswith('or set proof = "none" in [[peer]] small here')
    assert said["store"]["text"].startswith("1 of 2 results stored; sr left out: ")
    assert said["proof"]["text"] == "small offers neither storage commitment nor a query"
    assert len(small.kept()) == 1
    leaves_nothing(node)


@pytest.mark.parametrize(
    ("name", "step", "text", "change"),
    [
        (
            "abrupt",
            "echo",
            '"ABRUPT" at 127.0.0.1:{port} aborts instead of answering the association request',
            'see its log, and whether "OVERREAD" at this machine\'s address is allowed there',
        ),
        (
            "closed",
            "connect",
            "nothing listens at 127.0.0.1:{port}",
            "start the peer's DICOM service there, or correct host and port here",
        ),
        (
            "nowhere",
            "connect",
            'the host name "pacs.invalid" is not known here ({said})',
            "correct host in this peer's settings here, or this machine's name service",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_to_change(
    node: RunningNode, name: str, step: str, text: str, change: str
) -> None:
    code, said = ended(start(node, name, "--yes", "--wait", "1"))
    assert code == 1
    peer = node.settings.peer_named(name)
    assert peer is not None
    resolver = said[step]["text"].rpartition("(")[2].rstrip(")")
    assert said[step]["text"] == text.format(port=peer.port, said=resolver)
    assert (said[step]["verdict"], said[step]["change"]) == ("fail", change)
    assert said["store"]["text"] == f'not tried, as "{step}" failed'
    # our own half is proven all the same
    assert said["result"]["verdict"] == "ok"
    leaves_nothing(node)


def test_a_peer_to_which_no_route_delivers_gets_the_image_itself(
    node: RunningNode, orthancs: dict[str, Orthanc]
) -> None:
    code, said = ended(start(node, "idle", "--yes", "--wait", "20"))
    assert (
        said["result"]["text"] == "no live route delivers to idle: no result is made, the image itself stands for one"
    )
    assert said["store"]["text"].startswith("the image was stored; delete")
    assert said["proof"]["text"] == "idle finds the image when it is asked"
    assert said["inbound"]["text"] == "idle sent 1 object of the test study back by C-MOVE"
    assert code == 0
    assert len(orthancs["idle"].get("/instances")) == 1
    leaves_nothing(node)


def test_without_a_word_nothing_is_stored(node: RunningNode, orthancs: dict[str, Orthanc]) -> None:
    before = len(orthancs["pacs"].get("/instances"))
    code, said = ended(start(node, "pacs", "--wait", "1"))
    assert (code, said["store"]["verdict"]) == (1, "skipped")
    assert said["store"]["text"] == "this is no terminal, and without --yes nothing is stored there"
    assert (said["inbound"]["verdict"], said["inbound"]["text"]) == (
        "skipped",
        "nothing was stored there, so nothing can come back",
    )
    assert len(orthancs["pacs"].get("/instances")) == before
    leaves_nothing(node)


def test_a_modality_is_waited_for(node: RunningNode, film: Callable[..., Path], storescu: Callable[..., bool]) -> None:
    process = start(node, "modality", "--wait", "60")
    assert process.stdout is not None
    while '"step": "inbound", "verdict": "waiting"' not in process.stdout.readline():
        assert process.poll() is None
    image = film(Modality="US")
    assert storescu(node, image)
    code, said = ended(process)
    assert code == 0
    assert said["inbound"]["text"] == 'modality ("MODALITY" from 127.0.0.1) sends to our listener'
    # what it sent is a study like every other, and stays
    assert len(studies.latest(node.parts.store, 10)) == 1
    with node.parts.store.write() as connection:
        for table in reversed(schema.metadata.sorted_tables):
            if table is not schema.meta:
                connection.execute(table.delete())
    for path in (node.folder / "data" / "spool").rglob("*.dcm"):
        path.unlink()


def test_whoever_stops_it_leaves_nothing(node: RunningNode) -> None:
    process = start(node, "stranger", "--no-store", "--wait", "60")
    assert process.stdout is not None
    while '"step": "inbound", "verdict": "waiting"' not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (130, "Stopped. What was made of the test is deleted here.")
    leaves_nothing(node)
