"""Connections that a TCP balancer brings: headers by hand, and a real haproxy."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import needed
import pytest
from certificates import Authority
from peers import Owner, until
from wire import Wire, association_request

from node.network.guard import Places
from node.network.incoming import Rejection
from node.network.listener import Listener
from node.network.orthanc import free_port
from node.network.proxied import V2, V2_LONGEST, NoHeader, read_client
from node.network.sender import Sender
from node.network.tls import Identity

Listening = Callable[..., Listener]
TCP4 = socket.inet_aton("10.1.2.3") + socket.inet_aton("10.9.9.9") + struct.pack("!HH", 4711, 11112)
TCP6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(16) + struct.pack("!HH", 4711, 11112)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:10.1.2.3") + bytes(16) + struct.pack("!HH", 4711, 11112)


def v2(body: bytes, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    return V2 + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def asked(data: bytes, *, seconds: float = 0.3, pieces: int = 0, end: bool = False) -> tuple[object, bytes]:
    """What the header says, and what is left to read behind it."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        for start in range(0, len(data), pieces or len(data) or 1):
            theirs.sendall(data[start : start + (pieces or len(data))])
        if end:
            theirs.shutdown(socket.SHUT_WR)

    sending = threading.Thread(target=send)
    with ours, theirs:
        sending.start()
        try:
            said = read_client(ours, seconds)
        finally:
            sending.join()
        ours.setblocking(False)
        try:
            return said, ours.recv(100)
        except BlockingIOError:
            return said, b""


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 10.1.2.3 10.9.9.9 4711 11112\r\n", ("10.1.2.3", 4711)),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 11112\r\n", ("2001:db8::7", 4711)),
        (b"PROXY TCP6 ::ffff:10.1.2.3 ::1 4711 11112\r\n", ("10.1.2.3", 4711)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (v2(TCP4), ("10.1.2.3", 4711)),
        (v2(TCP6, family=0x21), ("2001:db8::7", 4711)),
        (v2(MAPPED, family=0x21), ("10.1.2.3", 4711)),
        (v2(TCP4 + b"\x03\x00\x04abcd"), ("10.1.2.3", 4711)),
        (v2(TCP4 + bytes(V2_LONGEST - 12)), ("10.1.2.3", 4711)),
        (v2(b"", command=0x20, family=0), None),
    ],
)
@pytest.mark.parametrize("pieces", [0, 1])
def test_the_header_says_for_whom_a_connection_is(header: bytes, client: object, pieces: int) -> None:
    said, left = asked(header + b"\x01\x00DICOM", pieces=pieces)
    assert said == client
    assert left == b"\x01\x00DICOM"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x01\x00\x00\x00\x00\xce\x00\x01\x00\x00OVERREAD", "it begins with something else"),
        (b"GET / HTTP/1.1\r\n\r\n", "it begins with something else"),
        (b"PROXY TCP4 " + b"1" * 200, "a line of more than 107 bytes"),
        (b"PROXY TCP4 10.1.2.3 10.9.9.9 4711\r\n", "is not PROXY TCP4 or TCP6 with"),
        (b"PROXY TCP4 10.1.2.300 10.9.9.9 4711 1\r\n", "no address or no port"),
        (b"PROXY TCP4 10.1.2.3 10.9.9.9 x 1\r\n", "no address or no port"),
        (b"PROXY TCP4 10.1.2.3 10.9.9.9 70000 1\r\n", "that cannot be"),
        (b"PROXY TCP6 10.1.2.3 10.9.9.9 4711 1\r\n", "that cannot be"),
        (b"PROXY UDP4 10.1.2.3 10.9.9.9 4711 1\r\n", "is not PROXY TCP4 or TCP6"),
        (b"PROXY \xff\xfe 10.1.2.3 10.9.9.9 4711 1\r\n", "is not PROXY TCP4 or TCP6"),
        (v2(TCP4, length=V2_LONGEST + 1), "more than 4096"),
        (v2(TCP4, length=11), "too few for its addresses"),
        (v2(TCP4, command=0x31), "version and command 0x31"),
        (v2(TCP4, command=0x22), "version and command 0x22"),
        (v2(bytes(216), family=0x31), "family 0x31"),
        (v2(TCP4, family=0x12), "family 0x12"),
        (v2(TCP4, length=40), "only 12 bytes came in time"),
        (V2[:7], "only 7 bytes came in time"),
    ],
)
def test_what_is_no_header_is_said(data: bytes, words: str) -> None:
    with pytest.raises(NoHeader, match=words.replace("+", r"\+")):
        asked(data)


def test_who_only_looks_whether_the_port_is_open_is_no_fault() -> None:
    with pytest.raises(NoHeader, match=r"^$"):
        asked(b"", end=True)
    with pytest.raises(NoHeader, match="it ended after 3 bytes"):
        asked(b"PRO", end=True)


def test_one_that_drips_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"PROXY ")
        began = time.monotonic()
        with pytest.raises(NoHeader, match="in time"):
            read_client(ours, 0.2)
        assert time.monotonic() - began < 2


@pytest.fixture
def behind(listening: Listening) -> Callable[..., Listener]:
    """A listener for which this machine is a balancer."""
    return lambda **changes: listening(**({"relays": lambda address: address == "127.0.0.1"} | changes))


def test_the_association_is_the_client_s(behind: Listening, owner: Owner) -> None:
    with Wire(behind().port) as wire:
        wire.send(v2(TCP4) + association_request())
        assert wire.read()
        until(lambda: owner.accepted)
    assert next(iter(owner.accepted.values())).address == "10.1.2.3"


def test_what_comes_without_a_header_is_closed(
    behind: Listening, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    with Wire(behind().port) as wire:
        wire.send(association_request())
        assert wire.read() is None
    assert not owner.accepted
    assert "rule=no-proxy-header address=127.0.0.1 reason='it begins with something else'" in caplog.text


def test_a_header_from_elsewhere_is_no_introduction(listening: Listening, owner: Owner) -> None:
    listener = listening(relays=lambda address: address == "192.0.2.1")
    with Wire(listener.port) as wire:
        wire.send(v2(TCP4) + association_request())
        wire.socket.settimeout(5)
        assert (wire.read() or (7,))[0] == 7  # an abort, or just the end
    assert not owner.accepted


def test_health_checks_leave_no_line(behind: Listening, caplog: pytest.LogCaptureFixture) -> None:
    port = behind().port
    for said in (b"", b"PROXY UNKNOWN\r\n", v2(b"", command=0x20, family=0)):
        with Wire(port) as wire:
            if said:
                wire.send(said)
                wire.socket.settimeout(5)
                assert wire.socket.recv(10) == b""
    time.sleep(0.2)
    assert not caplog.records


def test_places_are_the_client_s(behind: Listening, owner: Owner) -> None:
    places = Places(total=10, per_host=1, relays=lambda address: address == "127.0.0.1")
    port = behind(places=places).port
    with ExitStack() as stack:
        first = stack.enter_context(Wire(port))
        first.send(v2(TCP4) + association_request())
        assert first.read()
        second = stack.enter_context(Wire(port))
        second.send(v2(TCP4) + association_request())
        assert second.read() is None
        other = stack.enter_context(Wire(port))
        other.send(v2(TCP6, family=0x21) + association_request())
        assert other.read()
    until(lambda: not places._open)


def test_the_header_comes_before_tls(behind: Listening, owner: Owner, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    identity = Identity(authority.files("node"))
    listener = behind(port=None, secure_port=0, identity=identity)
    context = Identity(authority.files("peer")).client(pinned=False)
    with socket.create_connection(("127.0.0.1", listener.secure_port or 0)) as plain:
        plain.sendall(v2(TCP4))
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            secure.sendall(association_request())
            assert secure.recv(1) == b"\x02"
    assert next(iter(owner.accepted.values())).address == "10.1.2.3"


HAPROXY = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    option redispatch
    retries 3
frontend dicom
    bind 127.0.0.1:{port}
    default_backend receivers
backend receivers
    balance leastconn
{servers}
"""


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """A real balancer before some ports; its own port."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        needed.missing("haproxy")
    with ExitStack() as stack:

        def start(*ports: int | None) -> int:
            port = free_port()
            lines = [
                f"    server r{n} 127.0.0.1:{one} send-proxy-v2 check inter 200ms fall 1 rise 1"
                for n, one in enumerate(ports)
            ]
            file = tmp_path / "haproxy.cfg"
            file.write_text(HAPROXY.format(port=port, servers="\n".join(lines)))
            process = subprocess.Popen([program, "-db", "-f", str(file)], stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
            return port

        yield start


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_real_balancer_brings_senders_with_their_addresses(
    behind: Listening, owner: Owner, haproxy: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    refuse = Rejection(1, 1, 7, "")
    owner.rejection = lambda requestor: None if requestor.address == "127.0.0.2" else refuse
    listeners = [behind(), behind()]
    port = haproxy(*(listener.port for listener in listeners))
    known = Sender(calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=port, timeout=5)
    with Wire(port) as wire:  # from 127.0.0.1, which the rule does not name
        wire.send(association_request())
        assert (wire.read() or (0,))[0] == 3
    with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)) as connection:
        connection.sendall(association_request())
        assert connection.recv(1) == b"\x02"
    until(lambda: [one.address for one in owner.accepted.values()] == ["127.0.0.2"])
    owner.rejection = lambda requestor: None
    listeners[0].stop(0)
    for _ in range(4):  # the balancer finds out, and brings everybody to the other one
        known.echo()
    known.close()
    assert not [r for r in caplog.records if "no-proxy-header" in r.getMessage()]
