"""Peer tests that people started in the dashboard: one for each peer at a time, each in a thread, its steps kept to be
shown until the next one. A test that nobody waits for ends by its own limits."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from config.settings import Peer
from node.admin.step import NOT_ASKED, Rules, Step
from node.admin.trial import run
from node.edge import careful

if TYPE_CHECKING:
    from node.web.desk import Desk

WAIT_SECONDS = 60.0
MOST = 4
"""Tests at once: each holds a thread and talks to somebody."""


@dataclass
class Trying:
    """One test: the steps so far. A step that waits is overwritten by the next of its name."""

    peer: str
    by: str
    began: float
    stores: bool
    steps: list[Step] = field(default_factory=list)
    ended: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def proven(self) -> bool:
        return self.ended and not self.stop.is_set() and all(s.proven for s in self.steps if s.verdict != "waiting")

    def told(self, step: Step) -> None:
        if self.steps and self.steps[-1].verdict == "waiting":
            self.steps.pop()
        self.steps.append(step)


class Tests:
    """The tests of one dashboard."""

    def __init__(self) -> None:
        self._by_peer: dict[str, Trying] = {}
        self._lock = threading.Lock()

    def of(self, peer: str) -> Trying | None:
        return self._by_peer.get(peer)

    def start(self, desk: Desk, peer: Peer, *, by: str, stores: bool) -> str:
        """Begin a test; why not, or ""."""
        with self._lock:
            running = [t for t in self._by_peer.values() if not t.ended]
            if any(t.peer == peer.name for t in running):
                return f"A test of {peer.name} is running."
            if len(running) >= MOST:
                return f"{MOST} tests are running: wait for one of them."
            trying = self._by_peer[peer.name] = Trying(peer.name, by, desk.clock(), stores)
        threading.Thread(target=careful, args=[lambda: _run(desk, peer, trying)], daemon=True).start()
        return ""

    def stop(self, peer: str) -> None:
        if trying := self.of(peer):
            trying.stop.set()


def _run(desk: Desk, peer: Peer, trying: Trying) -> None:
    withheld = "" if trying.stores else NOT_ASKED
    rules = Rules(withheld=lambda _: withheld, wait=WAIT_SECONDS)
    steps = run(desk.settings, peer, store=desk.store, spool=desk.spool, bell=desk.bell, rules=rules)
    try:
        with closing(steps):
            for step in steps:
                trying.told(step)
                if trying.stop.is_set():
                    return
    finally:
        trying.ended = True
