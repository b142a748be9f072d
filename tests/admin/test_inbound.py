"""The way back where it cannot be: what is said, and what is to be changed here."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.settings import Settings
from node.admin import inbound
from node.admin.inbound import come_back
from node.admin.journey import Journey
from node.admin.probe import Probe
from node.admin.step import Step
from node.domain import Study, StudyState
from node.network.suboperations import Final
from node.storage import trials

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}


def journey(tmp_path: Path, **peer: Any) -> Journey:
    settings = Settings(node={"data_dir": tmp_path}, peer=[PACS | peer])  # type: ignore[arg-type,list-item]
    nothing: Any = None
    return Journey(Probe(settings, settings.peer[0]), nothing, nothing, nothing, proof_seconds=1)


def told(one: Journey, *, moves: bool = False, wait: float = 0.1) -> Step:
    return list(come_back(one, wait=wait, moves=moves))[-1]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound.roles, "status", lambda _: {"receive": {"running": True}})


def test_who_may_only_receive_is_not_asked(tmp_path: Path) -> None:
    said = told(journey(tmp_path, may=["receive"]))
    assert (said.verdict, said.proven, said.text) == ("skipped", True, 'pacs may only "receive"')


def test_a_node_that_does_not_run_cannot_be_reached(tmp_path: Path) -> None:
    said = told(journey(tmp_path))
    assert (said.verdict, said.proven, said.text) == ("skipped", False, "our listener does not run")
    assert said.change == "start it here: `overread serve`"


@pytest.mark.parametrize("asked_for", [True, False])
def test_where_nothing_was_stored_nothing_can_be_moved_back(tmp_path: Path, running: None, asked_for: bool) -> None:
    one = journey(tmp_path)
    one.withheld = asked_for
    said = told(one, moves=True, wait=60.0)
    words = "nothing was stored there, so nothing can come back"
    assert (said.verdict, said.proven, said.text) == ("skipped", asked_for, words)


def test_who_is_not_there_is_not_waited_for(tmp_path: Path, running: None) -> None:
    one = journey(tmp_path)
    one.probe.stopped = '"connect"'
    said = told(one, wait=60.0)
    assert (said.verdict, said.proven, said.text) == ("skipped", False, 'not tried, as "connect" failed')


def test_who_only_sends_is_waited_for(tmp_path: Path, running: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "came_from", lambda *_, **__: None)
    one = journey(tmp_path, may=["send"])
    one.store = SimpleNamespace(now=time.time)  # type: ignore[assignment]
    said = told(one)
    assert (said.verdict, said.text) == ("fail", "nothing came from pacs within 0.1 s")


def test_a_peer_that_is_not_where_it_may_send_from(tmp_path: Path, running: None) -> None:
    one = journey(tmp_path, networks=["10.1.0.0/16"])
    one.probe.addresses = ["10.2.3.4"]
    said = told(one)
    assert (said.verdict, said.text) == ("fail", "pacs is at 10.2.3.4, and may send from 10.1.0.0/16 only")
    assert said.change == 'add "10.2.3.4" to networks of [[peer]] pacs here, if it sends from there'


@pytest.mark.parametrize(
    ("moved", "text"),
    [
        (Final(0xA801, 0, 0), "pacs answers the C-MOVE with 0xA801: it does not know this node"),
        (Final(0x0000, 0, 0), "pacs answers the C-MOVE with success, and nothing arrived here"),
        (
            Final(0xA702, 0, 2),
            "pacs could not send the test study here: the C-MOVE was answered 0xA702, out of resources",
        ),
    ],
)
def test_what_a_move_that_brings_nothing_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: Final, text: str
) -> None:
    monkeypatch.setattr(trials, "came_back", lambda *_: 0)
    monkeypatch.setattr(inbound, "ARRIVE_SECONDS", 0.0)
    one = journey(tmp_path)
    one.study = Study(1, "1.2", "x", "", "", StudyState.ROUTED, "", 1, "", "", 0.0, 0.0, None)
    said = inbound._arrived(one, moved)
    assert (said.verdict, said.text) == ("fail", text)
    assert said.change == (
        'see there that it knows "OVERREAD" with this machine\'s address and port 11112, '
        "and that no firewall is between"
    )
