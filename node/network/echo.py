"""C-ECHO (PS3.4 Annex A): is a peer there, how quickly does it answer, and does Nagle's algorithm hold it back."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.sop_class import Verification

from node.domain import Pair
from node.errors import AssociationFailed, ContextRefused
from node.network.link import Link, Target, open_link

ECHO: Pair = (str(Verification), str(ImplicitVRLittleEndian))
SEE_LOG = "see its log there"
TURNS = 3
HELD_BACK_SECONDS = 0.025
"""An answer that comes so much later when we acknowledge late waits for that: Linux delays by 40 ms, others by more."""
DCMTK = "1.2.276.0.7230010.3."
"""Begins the Implementation Class UID of DCMTK, and of Orthanc, which is linked with it."""


@dataclass(frozen=True)
class Pulse:
    """How a peer answers: seconds (medians) of a C-ECHO that is acknowledged at once and of one that is not, and what
    implementation it says that it is."""

    at_once: float
    late: float
    implementation_class_uid: str
    implementation_version_name: str

    @property
    def held_back(self) -> bool:
        """Whether it writes an answer in two parts, of which the second waits for the first to be acknowledged."""
        return self.late - self.at_once > HELD_BACK_SECONDS

    @property
    def is_dcmtk(self) -> bool:
        return self.implementation_class_uid.startswith(DCMTK)


def open_echo(target: Target, handlers: Sequence[Any] = ()) -> Link:
    """An association on which C-ECHO was agreed on.

    Raises:
        AssociationFailed: there is none; the message says what to change, and on which side.
    """
    try:
        return open_link(target, [ECHO], handlers=handlers)
    except ContextRefused:
        said = f"{target} associates and does not offer Verification"
        raise AssociationFailed(said, advice="switch it on there (C-ECHO)", permanent=True) from None


def ask(link: Link) -> float:
    """One C-ECHO; the seconds until its answer.

    Raises:
        AssociationFailed: there was none, or another status than success.
    """
    started = time.monotonic()
    with link.within(link.target.timeout):
        answer = link.assoc.send_c_echo(link.next_message())
    seconds = time.monotonic() - started
    link.late = seconds >= link.target.timeout
    if "Status" not in answer:
        raise AssociationFailed(f"{link.target} associates, then {link.lost()} to the C-ECHO", advice=SEE_LOG)
    if answer.Status != 0x0000:
        words = f"{link.target} answers the C-ECHO with status 0x{answer.Status:04X}"
        raise AssociationFailed(words, advice=SEE_LOG)
    return seconds


def pulse(target: Target) -> Pulse:
    """Ask some times, and some times more as a program that does not hurry to acknowledge.

    Raises:
        AssociationFailed: as `open_echo` and `ask`.
    """
    hurries = True

    def on_data_sent(event: Any) -> None:
        # After the link's own handler, which has us acknowledge at once
        connection = event.assoc.dul.socket
        if not hurries and connection and connection.socket and hasattr(socket, "TCP_QUICKACK"):
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)

    link = open_echo(target, [(evt.EVT_DATA_SENT, on_data_sent)])
    try:
        at_once = statistics.median([ask(link) for _ in range(TURNS)])
        hurries = False
        late = statistics.median([ask(link) for _ in range(TURNS)])
        said = link.assoc.acceptor
        return Pulse(
            at_once,
            late,
            str(said.implementation_class_uid or ""),
            str(said.implementation_version_name or "").strip(),
        )
    finally:
        link.close()
