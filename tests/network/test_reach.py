"""The way to a peer before any DICOM, against real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import Authority

from node.network import reach, tls
from node.network.listener import Listener
from node.network.orthanc import free_port
from node.network.tls import Files, Identity


@pytest.fixture
def silent() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Authority(tmp_path / "authority").files("node")


def test_a_host_has_addresses() -> None:
    assert reach.addresses("127.0.0.1", 104, 5) == ["127.0.0.1"]
    with pytest.raises(socket.gaierror):
        reach.addresses("pacs.invalid", 104, 5)


def test_a_name_service_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asked.wait(5) and [])
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        reach.addresses("pacs.example", 104, 0.1)
    assert time.monotonic() - started < 2
    asked.set()


def test_the_first_address_that_takes_a_connection_counts(silent: int) -> None:
    # nothing listens at the second address of loopback
    assert reach.connect(["127.0.0.2", "127.0.0.1"], silent, 5) < 5
    with pytest.raises(ConnectionRefusedError):
        reach.connect(["127.0.0.1"], free_port(), 5)


def test_what_a_handshake_shows(listening: Callable[..., Listener], files: Files) -> None:
    listener = listening(port=None, secure_port=0, identity=Identity(files))
    assert listener.secure_port
    shown = reach.shake_hands("127.0.0.1", listener.secure_port, Identity(files).client(pinned=False), 5)
    assert shown.version == "TLSv1.3"
    assert shown.fingerprint == tls.fingerprint_of(files.certificate)
    assert 364 < shown.days_left <= 365


def test_who_does_not_speak_tls_is_not_waited_for(silent: int, files: Files) -> None:
    with pytest.raises(TimeoutError):
        reach.shake_hands("127.0.0.1", silent, Identity(files).client(pinned=False), 0.2)


def test_who_drips_is_cut(files: Files) -> None:
    def drip() -> None:
        connection, _ = server.accept()
        with connection:
            try:
                connection.sendall(b"\x16\x03\x03\x3f\xff")
                while True:
                    connection.sendall(b"\0")
                    time.sleep(0.05)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip)
        thread.start()
        started = time.monotonic()
        with pytest.raises(OSError):
            reach.shake_hands("127.0.0.1", server.getsockname()[1], Identity(files).client(pinned=False), 0.3)
        assert time.monotonic() - started < 3
        thread.join()
