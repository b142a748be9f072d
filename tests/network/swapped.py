"""A plug-in for pynetdicom's own tests: every server that they start is ours, with our reader and our way of waiting.

`python -m pytest -p swapped --pyargs pynetdicom.tests.test_assoc`
"""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Any

import pynetdicom.ae
from pynetdicom import _config
from pynetdicom.tests import utils

from node.network.guard import Limits
from node.network.reactor import EventDUL
from node.network.server import Connection, Server

ROOMY = Limits(pdu_bytes=2**24, request_bytes=2**24)
"""Some of their tests announce no limit at all."""
started = 0


class Swapped(Server):
    def __init__(
        self, ae: Any, address: Any, *arguments: Any, ssl_context: ssl.SSLContext | None = None, **options: Any
    ) -> None:
        global started
        started += 1
        options["request_handler"] = Connection
        super().__init__(
            ae,
            address,
            *arguments,
            **options,
            ended=lambda _: None,
            limits=ROOMY,
            upper_layer=EventDUL,
            tls=(lambda: ssl_context) if ssl_context else None,
        )

    def shutdown(self) -> None:
        # theirs takes half a second, within which some tests expect what they have just asked for
        self._empty_within(0.3)
        super().shutdown()
        if self in self.ae._servers:
            self.ae._servers.remove(self)


def pytest_configure() -> None:
    # they look at pynetdicom's own log, and at data sets in memory
    logging.getLogger("pynetdicom").setLevel(logging.NOTSET)
    _config.STORE_RECV_CHUNKED_DATASET = _config.STORE_SEND_CHUNKED_DATASET = False
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = True
    _config.LOG_HANDLER_LEVEL = "standard"
    pynetdicom.ae.ThreadedAssociationServer = Swapped
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        utils.PORTS[None] = (one.getsockname()[1], other.getsockname()[1])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"servers of ours: {started}")
