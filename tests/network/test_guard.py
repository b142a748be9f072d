"""Attacks on the listener before anybody is known, on the streaming and on pynetdicom's own path."""

from __future__ import annotations

import os
import random
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from certificates import Authority
from peers import Owner, data_set_of, until
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from wire import COMMAND, LAST, Wire, association_request, echo_with_data_set, in_pieces, p_data, pdv, store_request

from node.network.guard import GuardedSocket, Limits, Places
from node.network.listener import Listener
from node.network.tls import Files, Identity

Listening = Callable[..., Listener]
QUICK = Limits(pdu_seconds=0.5)
SEED = 20260103


@pytest.fixture(params=["streamed", "stock"])
def guarded(request: pytest.FixtureRequest, listening: Listening) -> Listening:
    return lambda **changes: listening(**({"limits": QUICK, "streaming": request.param == "streamed"} | changes))


def echoes(port: int) -> bool:
    ae = AE("GOOD")
    ae.add_requested_context(Verification)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 3
    assoc = ae.associate("127.0.0.1", port, ae_title="OVERREAD")
    if not assoc.is_established:
        return False
    status = assoc.send_c_echo()
    assoc.release()
    return "Status" in status and status.Status == 0x0000


def open_files() -> int:
    """File descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def memory() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def closed(wire: Wire, seconds: float) -> bool:
    """Whether the other side ends the connection within so long."""
    wire.socket.settimeout(seconds)
    try:
        return wire.read() is None or wire.read() is None
    except TimeoutError:
        return False


def test_half_a_header_holds_nobody_up_and_is_closed(guarded: Listening) -> None:
    port = guarded().port
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(port)) for _ in range(8)]
        for wire in wires:
            wire.send(b"\x01\x00\x00")
        assert echoes(port)
        assert all(closed(wire, 3) for wire in wires)


def test_a_pdu_that_drips_is_closed(guarded: Listening) -> None:
    port = guarded().port
    with Wire(port) as wire:
        wire.send(b"\x01\x00\x00\x00\x00\xc8")
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - started < 5:
                wire.send(b"\0")
                time.sleep(0.1)
        assert time.monotonic() - started < 2.5


@pytest.mark.parametrize("kind", [1, 4, 7])
def test_a_length_that_lies_is_closed_at_the_header(guarded: Listening, kind: int) -> None:
    port = guarded().port
    before = memory()
    with Wire(port) as wire:
        if kind == 4:
            wire.associate()
        wire.send(bytes([kind, 0]) + b"\xff\xff\xff\xff")
        sent = 0
        with pytest.raises(OSError):
            while sent < 400:
                wire.send(bytes(1_000_000))
                sent += 1
        assert sent < 20
    assert memory() - before < 50e6
    assert echoes(port)


def test_a_data_set_without_end_is_ended_by_the_budget(guarded: Listening, owner: Owner, folder: Path) -> None:
    port = guarded(limits=Limits(association_bytes=3_000_000), instance_limit=1_000_000).port
    with Wire(port) as wire:
        wire.associate()
        wire.send(p_data(pdv(store_request(), COMMAND | LAST)))
        sent = 0
        with pytest.raises(OSError):
            while sent < 100e6:
                wire.send(p_data(pdv(bytes(100_000), 0)))
                sent += 100_000
    assert sent < 20e6
    until(lambda: not list(folder.iterdir()))
    assert not owner.received
    assert echoes(port)


def test_strangers_cannot_keep_a_configured_peer_out(guarded: Listening) -> None:
    places = Places(total=6, per_host=6, reserved=2, known=lambda host: host == "127.0.0.1")
    port = guarded(places=places, limits=Limits(pdu_seconds=20), bind="0.0.0.0").port
    with ExitStack() as stack:
        strangers = []
        for _ in range(20):
            stranger = stack.enter_context(socket.socket())
            stranger.bind(("127.0.0.2", 0))
            stranger.connect(("127.0.0.1", port))
            strangers.append(stranger)
        time.sleep(0.3)
        assert echoes(port)
    until(lambda: places.take("127.0.0.2") == "")  # as soon as they are gone


def test_one_host_cannot_take_all_places(guarded: Listening) -> None:
    port = guarded(places=Places(total=10, per_host=3), bind="0.0.0.0").port
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(port)) for _ in range(5)]
        assert sum(closed(wire, 0.3) for wire in wires) == 2
        other = stack.enter_context(socket.socket())
        other.bind(("127.0.0.2", 0))
        other.connect(("127.0.0.1", port))
        other.settimeout(5)
        other.sendall(association_request())
        assert other.recv(1) == b"\x02"


@pytest.mark.slow
def test_a_flood_of_connections_leaves_the_service_as_it_was(guarded: Listening) -> None:
    port = guarded(places=Places(total=20, per_host=20)).port
    assert echoes(port)
    with ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(Wire(port))
        time.sleep(0.2)
        assert threading.active_count() < 100
    until(lambda: echoes(port), 10)


def mutations(count: int) -> Iterator[bytes]:
    rng = random.Random(SEED)
    whole = p_data(pdv(store_request(), COMMAND | LAST)) + p_data(pdv(bytes(200), LAST))
    for number in range(count):
        seed = bytearray(association_request() if number % 2 else whole)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(seed))
            match rng.randrange(4):
                case 0:
                    del seed[at : at + rng.randint(1, 8)]
                case 1:
                    seed[at:at] = rng.randbytes(rng.randint(1, 16))
                case _:
                    seed[at] = rng.randrange(256)
            seed = seed or bytearray(8)
        yield bytes(seed) if number % 2 else association_request() + bytes(seed)


@pytest.mark.slow
# of its own path pynetdicom lets threads end with an exception
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thousand_mutated_connections_leave_nothing_behind(guarded: Listening, folder: Path) -> None:
    port = guarded().port
    assert echoes(port)
    opened, before, threads = open_files(), memory(), threading.active_count()
    for number, data in enumerate(mutations(1000)):
        try:
            with Wire(port, timeout=2) as wire:
                wire.send(data)
                if number % 5 == 0:
                    wire.socket.settimeout(0.05)
                    wire.read()
        except OSError:
            continue
    until(lambda: threading.active_count() <= threads, 30)
    until(lambda: open_files() <= opened, 10)
    until(lambda: not list(folder.iterdir()), 10)
    assert memory() - before < 60e6
    assert echoes(port)


@pytest.mark.slow
@pytest.mark.parametrize("endless", [pdv(bytes(60_000), COMMAND), pdv(bytes(60_000), 0, context=3)])
def test_a_message_without_end_is_not_collected_in_memory(listening: Listening, endless: bytes) -> None:
    port = listening().port
    with Wire(port) as wire:
        wire.associate()
        if not endless[5] & COMMAND:
            wire.send(p_data(pdv(echo_with_data_set(), COMMAND | LAST, context=3)))
        sent = 0
        with pytest.raises(OSError):
            while sent < 100:
                wire.send(p_data(endless))
                sent += 1
                time.sleep(0.002)
        assert sent < 60
    assert echoes(port)


def test_a_reset_connection_gives_its_place_back_at_once(guarded: Listening) -> None:
    places = Places(total=2, per_host=2)
    port = guarded(places=places).port
    for _ in range(4):
        with Wire(port) as wire:
            # closing then sends a reset
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            until(lambda: bool(places._open.total()))
        until(lambda: not places._open.total(), 3)
    assert echoes(port)


def test_a_thread_that_cannot_start_costs_no_place(guarded: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(total=2, per_host=2)
    port = guarded(places=places).port
    with monkeypatch.context() as patch:

        def full(_server: object, *_: object) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(socketserver.ThreadingMixIn, "process_request", full)
        for _ in range(3):
            with Wire(port) as wire:
                assert closed(wire, 3)
    until(lambda: not places._open.total())
    assert echoes(port)


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(0.3)
        events: list[str] = []
        assoc = SimpleNamespace(dul=SimpleNamespace(event_queue=SimpleNamespace(put=events.append)))
        connection = GuardedSocket(assoc, here, Limits())
        events.clear()
        started = time.monotonic()
        connection.send(bytes(50_000_000))
        assert 0.2 < time.monotonic() - started < 3
        assert events == ["Evt17"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Authority(tmp_path_factory.mktemp("tls")).files("node")


@pytest.fixture
def secured(guarded: Listening, files: Files) -> int:
    port = guarded(port=None, secure_port=0, identity=Identity(files)).secure_port
    assert port
    return port


def shaken(wire: Wire, files: Files) -> Wire:
    wire.socket = Identity(files).client(pinned=False).wrap_socket(wire.socket, server_hostname="127.0.0.1")
    return wire


def test_a_silent_tls_client_holds_nobody_up(secured: int, files: Files) -> None:
    with Wire(secured), Wire(secured) as other:
        started = time.monotonic()
        shaken(other, files).associate()
        assert time.monotonic() - started < 2


def test_instances_are_received_over_tls(secured: int, owner: Owner, files: Files) -> None:
    with Wire(secured) as wire:
        shaken(wire, files).associate()
        for number in range(3):
            data = bytes(range(256)) * 2000
            wire.send(p_data(pdv(store_request(), COMMAND | LAST)))
            wire.send(b"".join(p_data(piece) for piece in in_pieces(data, 16000)))
            assert wire.status() == 0x0000
            assert data_set_of(owner.kept / f"{number}.dcm") == data


def test_who_speaks_plain_to_tls_is_not_served(secured: int, caplog: pytest.LogCaptureFixture) -> None:
    with Wire(secured) as wire:
        wire.send(association_request())
        assert closed(wire, 5)
    assert "rule=tls" in caplog.text


def test_places_are_given_back() -> None:
    places = Places(total=2, per_host=1, reserved=1, known=lambda host: host == "known")
    assert places.take("a") == ""
    assert places.take("a") == "connections-of-strangers"
    assert places.take("known") == ""
    assert places.take("known") == "connections"
    places.give_back("a")
    assert places.take("known") == "connections-of-one-host"
    assert places.take("b") == ""
