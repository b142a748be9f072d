"""What the network tests share: an owner for a listener, waiting, ports, the bytes of a data set."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from node.network.incoming import (
    Callbacks,
    CommitmentReport,
    CommitmentRequest,
    Incoming,
    Rejection,
    Requestor,
    Status,
)

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def data_set_of(path: Path) -> bytes:
    """A Part 10 file's bytes behind its file meta information."""
    content = path.read_bytes()
    assert content[128:132] == b"DICM"
    # (0002,0000) UL is the first element: its value counts the bytes behind it.
    assert content[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
    return content[144 + int.from_bytes(content[140:144], "little") :]


@dataclass
class Owner:
    """Stands for the pipeline: keeps every instance as a file, and what it was told."""

    kept: Path
    received: list[Incoming] = field(default_factory=list)
    accepted: dict[str, Requestor] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    rejection: Callable[[Requestor], Rejection | None] = lambda requestor: None
    answer: Callable[[Incoming], Status] = lambda incoming: Status(0x0000)
    accepting: Callable[[], None] = lambda: None
    asked: list[tuple[str, CommitmentRequest]] = field(default_factory=list)
    reported: list[tuple[str, CommitmentReport]] = field(default_factory=list)
    committing: Callable[[], Status] = lambda: Status(0x0000)

    def on_accept(self, association: str, requestor: Requestor) -> None:
        self.accepting()
        self.accepted[association] = requestor

    def on_instance(self, incoming: Incoming) -> Status:
        status = self.answer(incoming)
        final = self.kept / f"{len(self.received)}.dcm"
        if status.code == 0x0000:
            incoming.path.rename(final)
        self.received.append(incoming)
        return status

    def on_end(self, association: str, how: str) -> None:
        self.ended[association] = how

    def on_commitment_request(self, association: str, request: CommitmentRequest) -> Status:
        self.asked.append((association, request))
        return self.committing()

    def on_commitment_report(self, association: str, report: CommitmentReport) -> Status:
        self.reported.append((association, report))
        return self.committing()

    def callbacks(self) -> Callbacks:
        return Callbacks(
            admit=lambda requestor: self.rejection(requestor),
            on_accept=self.on_accept,
            on_instance=self.on_instance,
            on_end=self.on_end,
            on_commitment_request=self.on_commitment_request,
            on_commitment_report=self.on_commitment_report,
        )


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for what another thread or process is about to do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def listens(port: int) -> bool:
    # Not by connecting: to storescp that would be an association that fails.
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("0.0.0.0", port))
        except OSError:
            return True
        return False
