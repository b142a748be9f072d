"""A node takes changed settings up while it works: nobody who is sending notices, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from house import make_image
from pydicom import dcmread
from running import RunningNode

from node.admin import taking_up
from node.network.sender import Sender
from node.network.standin import StandIn
from node.storage import studies

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandIn]:
    scp = StandIn(tmp_path / "pacs", ae_title="PACS")
    scp.start()
    yield scp
    scp.stop()


@pytest.fixture
def node(tmp_path: Path, pacs: StandIn) -> Iterator[RunningNode]:
    made = RunningNode(tmp_path / "node", ("PACS", pacs.port), stub=True)
    made.start()
    yield made
    made.stop()


def overread(node: RunningNode, *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "node.cli", *arguments, "--config", str(node.file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def sent_as(node: RunningNode, title: str, *paths: Path) -> list[str]:
    sender = Sender(calling_ae_title=title, called_ae_title="OVERREAD", host="127.0.0.1", port=node.port, timeout=20)
    try:
        return [outcome.kind for _, outcome in sender.send(list(paths))]
    finally:
        sender.close()


def unfinished(node: RunningNode) -> dict[str, int]:
    states = ("RECEIVING", "SETTLED", "QUEUED", "LEASED", "DEAD", "HELD")
    return {key: n for key, n in studies.counts(node.parts.store).items() if n and key.rpartition(".")[2] in states}


class Gate:
    """A line to a node that lets some bytes through, and the rest when it is opened."""

    def __init__(self, port: int, *, after: int) -> None:
        self.opened, self.waits = threading.Event(), threading.Event()
        self._left, self._port = after, port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        client, _ = self._server.accept()
        there = socket.create_connection(("127.0.0.1", self._port))
        back = threading.Thread(target=self._copy, args=[there, client], daemon=True)
        back.start()
        self._copy(client, there, guarded=True)
        back.join()
        for one in (self._server, client, there):
            one.close()

    def _copy(self, source: socket.socket, to: socket.socket, *, guarded: bool = False) -> None:
        while data := source.recv(65536):
            self._left -= len(data) if guarded else 0
            if self._left < 0 and guarded:
                self.waits.set()
                self.opened.wait(120)
            to.sendall(data)
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_WR)


@pytest.mark.dcmtk
def test_an_association_in_mid_transfer_outlives_the_removal_of_its_peer(
    node: RunningNode, program: Callable[[str], str], tmp_path: Path
) -> None:
    film = make_image(tmp_path / "large.dcm", pixels=np.arange(3000 * 2000, dtype=np.uint16).reshape(3000, 2000))
    gate = Gate(node.port, after=4_000_000)
    command = [program("storescu"), "-aet", "MODALITY", "-aec", "OVERREAD", "127.0.0.1"]
    sending = subprocess.Popen([*command, str(gate.port), str(film)])
    assert gate.waits.wait(30)
    before = node.pid("receive")
    overread(node, "peer", "remove", "modality")
    overread(node, "peer", "add", "ct", "--ae-title", "CT", "--may", "send", "--network", "127.0.0.1")
    said = overread(node, "reload")
    assert said == "taken up: peer modality was removed\ntaken up: peer ct was added\n"
    assert sending.poll() is None
    gate.opened.set()
    assert sending.wait(30) == 0
    assert node.pid("receive") == before
    node.finish(str(dcmread(film, stop_before_pixels=True).StudyInstanceUID))

    other = make_image(tmp_path / "other.dcm")
    refused = subprocess.run([*command, str(node.port), str(other)], capture_output=True, text=True)
    assert refused.returncode != 0 and "Calling AE Title Not Recognized" in refused.stdout + refused.stderr
    assert sent_as(node, "CT", other) == ["stored"]
    node.finish(str(dcmread(other, stop_before_pixels=True).StudyInstanceUID))
    assert node.problems() == []


def test_results_go_where_a_reload_says(node: RunningNode, pacs: StandIn, tmp_path: Path) -> None:
    archive = StandIn(tmp_path / "archive", ae_title="ARCHIVE")
    archive.start()
    try:
        there = ("--host", "127.0.0.1", "--port", str(archive.port), "--proof", "none", "--deliver-from", "chest")
        overread(node, "peer", "add", "archive", "--ae-title", "ARCHIVE", *there)
        models = node.pid("infer")
        said = overread(node, "reload")
        assert said == "taken up: peer archive was added\ntaken up: route chest was changed: deliver_to\n"
        assert node.pid("infer") == models
        film = make_image(tmp_path / "film.dcm")
        assert sent_as(node, "MODALITY", film) == ["stored"]
        node.finish(str(dcmread(film, stop_before_pixels=True).StudyInstanceUID))
        assert len(archive.received()) == len(pacs.received()) == 2
        assert overread(node, "reload") == "nothing was changed\n"
    finally:
        archive.stop()


def test_a_file_that_is_not_valid_changes_nothing_and_is_an_alarm(node: RunningNode, tmp_path: Path) -> None:
    good = node.file.read_text()
    wrong = f"{node.file}: route[0].deliver_to = ['pcas']: no such peer that may \"receive\" (have: pacs)"
    for text, words in (
        (good.replace('deliver_to = ["pacs"]', 'deliver_to = ["pcas"]'), wrong),
        (good + "[[route", f"{node.file}: not TOML: "),
        (
            good.replace('bundle = "chest-findings"', 'bundle = "chest"'),
            "route[0].bundle = 'chest': chest: no such bundle in ",
        ),
    ):
        node.file.write_text(text)
        pids = {name: node.pid(name) for name in node.said()}
        assert overread(node, "reload", code=2).startswith(f"nothing was taken up:\n{words}")
        assert words in node.log
        status = json.loads(overread(node, "status", "--json", code=1))
        (alarm,) = status["alarms"]
        since, _, first = alarm.partition(": ")[0].rpartition(" of ")[2], *alarm.partition(": ")[1:]
        assert time.strptime(since, "%Y-%m-%d %H:%M:%S") and first.startswith(words)
        assert alarm.startswith("the settings file is not valid, the node runs with those of ")
        assert {name: node.pid(name) for name in node.said()} == pids
    node.file.write_text(good + "[[route")
    before = node.pid("dispatch")
    node.kill("dispatch")  # it comes back with what was in force, not with what the file says
    node.wait_for(lambda: node.is_ready() and node.pid("dispatch") != before)
    film = make_image(tmp_path / "film.dcm")
    assert sent_as(node, "MODALITY", film) == ["stored"]
    node.finish(str(dcmread(film, stop_before_pixels=True).StudyInstanceUID))
    node.file.write_text(good)
    assert overread(node, "reload") == "nothing was changed\n"
    assert json.loads(overread(node, "status", "--json"))["alarms"] == []


def test_what_needs_a_restart_is_named_and_the_rest_is_taken_up(node: RunningNode) -> None:
    text = node.file.read_text().replace("[listener]\n", "[listener]\nmax_associations = 7\n")
    node.file.write_text(text.replace("threads = 1", "threads = 1\nbatch = 3") + "[retention]\ninputs_days = 9\n")
    said = overread(node, "reload")
    assert said == (
        "taken up: infer.batch = 3 (was 8)\ntaken up: retention.inputs_days = 9 (was 30)\n"
        "not taken up: listener.max_associations: restart the node\n"
    )
    assert "settings.not-taken-up listener.max_associations: restart the node" in node.log
    answer = json.loads(overread(node, "reload", "--json"))
    assert answer == {"refused": "", "said": [], "warned": [], "at_start": ["listener.max_associations"]}


def test_twenty_reloads_under_load_lose_nothing(node: RunningNode, pacs: StandIn, tmp_path: Path) -> None:
    stop, acknowledged, lost = threading.Event(), list[str](), list[str]()

    def load(n: int) -> None:
        folder = tmp_path / f"films-{n}"
        folder.mkdir()
        while not stop.is_set():
            film = make_image(folder / f"{len(acknowledged)}-{time.monotonic_ns()}.dcm")
            uid = str(dcmread(film, stop_before_pixels=True).StudyInstanceUID)
            (acknowledged if sent_as(node, "MODALITY", film) == ["stored"] else lost).append(uid)
            stop.wait(1.0)

    senders = [threading.Thread(target=load, args=[n]) for n in range(2)]
    for sender in senders:
        sender.start()
    good = node.file.read_text()
    try:
        for n in range(8):
            node.file.write_text(good.replace('name = "elsewhere"', f'name = "elsewhere-{n}"'))
            (answer,) = taking_up.ask(node.settings.node.data_dir, seconds=120).values()
            assert answer["refused"] == "" and f"peer elsewhere-{n} was added" in answer["said"]
    finally:
        stop.set()
        for sender in senders:
            sender.join()
    assert lost == [] and len(acknowledged) > 40
    node.wait_for(lambda: unfinished(node) == {}, seconds=240, every=0.5)
    assert node.problems() == []
    held = [dcmread(path, stop_before_pixels=True).StudyInstanceUID for path in pacs.received()]
    assert {uid: held.count(uid) for uid in acknowledged} == dict.fromkeys(acknowledged, 2)
