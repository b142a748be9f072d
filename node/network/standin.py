"""A storage SCP on loopback that keeps what it receives as files: a PACS for the demonstration and for tests.

It trusts everybody who can reach loopback and is never part of a node that serves.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pynetdicom import evt

from node.errors import PeerError
from node.network import commitment, contexts, stack
from node.network.incoming import NO_SUCH_INSTANCE, CommitmentReport, CommitmentRequest, Status
from node.network.link import Target, open_link
from node.network.server import Connection, Server
from node.network.statuses import classify

INVALID_SOP_INSTANCE = 0x0117  # PS3.7 C.5.11
LOOPBACK = "127.0.0.1"
REPORT_SECONDS = 5.0


class StandIn:
    """Keeps each instance as `folder/<SOP Instance UID>.dcm`, synced to disk before it answers success.

    With `report_to` (host, port) it commits to what it keeps, and reports there. `answer(sop_instance_uid)` gives the
    DIMSE status instead, as a bad PACS would; what is not answered with success
    or a warning is not kept. Port 0 takes a free one. A port in use raises OSError at `start`.
    """

    def __init__(
        self, folder: Path, *, ae_title: str = "STANDIN", port: int = 0, report_to: tuple[str, int] | None = None
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self.answer: Callable[[str], int] | None = None
        self._wanted_port = port
        self._report_to = report_to
        self._reports: list[threading.Thread] = []
        self._server: Server | None = None

    @property
    def port(self) -> int:
        return self._server.port if self._server else self._wanted_port

    def start(self) -> None:
        """Listen, in threads of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ae = stack.entity(self.ae_title)
        ae.require_called_aet = True
        files = stack.TemporaryFiles(ae, self.folder)
        accepted = contexts.acceptable(contexts.UNCOMPRESSED_FIRST)
        self._server = ae.make_server(
            (LOOPBACK, self._wanted_port),
            contexts=[c for c in accepted if self._report_to or c.abstract_syntax != commitment.MODEL],
            evt_handlers=[
                (evt.EVT_CONN_OPEN, self._on_connection),
                (evt.EVT_DATA_SENT, stack.on_data_sent),
                (evt.EVT_C_STORE, self._on_store),
                commitment.request_handler(self._on_asked),
            ],
            server_class=Server,
            request_handler=Connection,
            ended=files.discard,
        )
        self._server.serve()

    def stop(self) -> None:
        """Stop listening; abort whoever is still associated."""
        if self._server:
            self._server.stop(0.0)
            self._server = None
        for thread in self._reports:
            thread.join()

    def received(self) -> list[Path]:
        """The kept files, by name."""
        return sorted(self.folder.glob("*.dcm"))

    def _on_connection(self, event: Any) -> None:
        stack.tune(event.assoc.dul.socket.socket, timeout=60.0)

    def _on_store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if not re.fullmatch(r"[0-9.]{1,64}", uid):
            return INVALID_SOP_INSTANCE
        status = self.answer(uid) if self.answer else 0x0000
        if classify(status).kind in ("stored", "warning"):
            _keep(Path(event.dataset_path), self.folder / f"{uid}.dcm")
        return status

    def _on_asked(self, assoc: Any, request: CommitmentRequest) -> Status:
        kept, failed = [], []
        for reference in request.references:
            if (self.folder / f"{reference.sop_instance_uid}.dcm").exists():
                kept.append(reference)
            else:
                failed.append((reference, NO_SUCH_INSTANCE))
        report = CommitmentReport(request.transaction_uid, tuple(kept), tuple(failed))
        thread = threading.Thread(target=self._tell, args=(str(assoc.requestor.ae_title), report), daemon=True)
        self._reports.append(thread)
        thread.start()
        return Status(0x0000)

    def _tell(self, ae_title: str, report: CommitmentReport) -> None:
        assert self._report_to, "otherwise nobody can ask"
        host, port = self._report_to
        try:
            link = open_link(
                Target(self.ae_title, ae_title, host, port, REPORT_SECONDS),
                commitment.PAIRS,
                scp_of=[commitment.MODEL],
            )
        except PeerError:  # whoever asked asks again
            return
        commitment.report(link, report)
        link.close()


def _keep(path: Path, final: Path) -> None:
    _sync(path)
    path.rename(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
