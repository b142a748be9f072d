"""pynetdicom's two threads of an association, woken by events instead of looking a thousand times a second.

The reactors are pynetdicom's own; replaced is how they wait. An idle association then costs nothing, and what arrives
is looked at when it arrives.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from contextlib import suppress
from typing import Any

from pynetdicom.dul import DULServiceProvider

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.25
"""At the latest after so long timers and flags are looked at."""
IDLE_SECONDS = 0.001
"""How long pynetdicom's loop sleeps where it does not wait: before a connection is closed, for example."""
WAITING = frozenset({"Sta2", "Sta3", "Sta6", "Sta7", "Sta8"})
"""States of PS3.8 9.2.2 in which an acceptor waits for its peer or its own user."""


class Checkpoint(threading.Event):
    """Stands where the association's thread passes once in each round: it waits there until something happened.

    Set means free passage, as pynetdicom uses it. `knock` is what happened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self._happened = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self._happened.wait(WAIT_SECONDS)
        self._happened.clear()
        return super().wait(timeout)

    def set(self) -> None:
        super().set()
        if hasattr(self, "_happened"):
            self._happened.set()

    def knock(self) -> None:
        self._happened.set()


class EventDUL(DULServiceProvider):  # type: ignore[misc]  # pynetdicom is untyped here
    """Waits for the socket or its own user."""

    def __init__(self, assoc: Any) -> None:
        super().__init__(assoc)
        self._awake = self._wake = -1
        self._run_loop_delay = 0.0
        self._checkpoint = assoc._reactor_checkpoint = Checkpoint()

    def send_pdu(self, primitive: Any) -> None:
        super().send_pdu(primitive)
        self._rouse()

    def kill_dul(self) -> None:
        super().kill_dul()
        self._rouse()

    def run_reactor(self) -> None:
        self._awake, self._wake = os.pipe()
        for end in (self._awake, self._wake):
            os.set_blocking(end, False)
        try:
            super().run_reactor()
        except Exception as error:
            # an event for which PS3.8 Table 9-10 has no action: pynetdicom's thread would end with the connection open
            log.warning("association.failed state=%s error=%s", self.state_machine.current_state, type(error).__name__)
            self._give_up()
        finally:
            self._checkpoint.knock()
            os.close(self._awake)
            wake, self._wake = self._wake, -1
            os.close(wake)

    def _is_transport_event(self) -> bool:
        self._checkpoint.knock()  # what the last round did may concern the association's thread
        waits = self.state_machine.current_state in WAITING and self.socket.fileno() >= 0
        # pynetdicom sleeps before it looks again; who waits here need not
        self._run_loop_delay = 0.0 if waits else IDLE_SECONDS
        if waits and self.event_queue.empty():
            self._wait()
        return bool(super()._is_transport_event())

    def _wait(self) -> bool:
        """Until the socket has something, or our user does; whether the socket has."""
        connection: Any = self.socket
        if connection.buffered:
            return True
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._awake, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(WAIT_SECONDS * 1000)]
        if self._awake in ready:
            with suppress(BlockingIOError):
                os.read(self._awake, 4096)
        return connection.fileno() in ready

    def _give_up(self) -> None:
        self.assoc.is_aborted, self.assoc.is_established = True, False
        self.assoc._kill = self._kill_thread = True
        if self.socket:
            self.socket.close()

    def _rouse(self) -> None:
        with suppress(OSError):  # a full pipe wakes as well; a closed one has nobody to wake
            os.write(self._wake, b"x")
