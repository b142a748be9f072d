"""The sender against the stand-in, DCMTK's storescp as a bad peer, and sockets that misbehave."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import data_set_of, until
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless
from pynetdicom import evt

from node.errors import AssociationFailed
from node.network import contexts, link
from node.network.orthanc import free_port
from node.network.sender import Outcome, Sender
from node.network.standin import StandIn

StoreSCP = Callable[..., tuple[int, "subprocess.Popen[str]"]]
MakeFile = Callable[..., Path]


@pytest.fixture
def to() -> Iterator[Callable[..., Sender]]:
    """Senders to a port of this machine; they are closed at the end."""
    made: list[Sender] = []

    def make(port: int, *, called: str = "ANY-SCP", timeout: float = 5.0, host: str = "127.0.0.1") -> Sender:
        sender = Sender(calling_ae_title="OVERREAD", called_ae_title=called, host=host, port=port, timeout=timeout)
        made.append(sender)
        return sender

    yield make
    for sender in made:
        sender.close()


To = Callable[..., Sender]


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The associations that were asked for, in order."""
    opened: list[Any] = []
    original = link.open_link

    def watched(target: link.Target, pairs: Any) -> link.Link:
        opened.append(pairs)
        return original(target, pairs)

    monkeypatch.setattr("node.network.sender.open_link", watched)
    return opened


def outcomes(sender: Sender, *paths: Path) -> list[Outcome]:
    return [outcome for _, outcome in sender.send(paths)]


def test_the_stored_bytes_arrive_unaltered(standin: StandIn, to: To, make_file: MakeFile) -> None:
    path = make_file(300_001)
    assert outcomes(to(standin.port, called="STANDIN"), path) == [Outcome(0x0000, "", "stored")]
    (kept,) = standin.received()
    assert data_set_of(kept) == data_set_of(path)


def test_many_objects_go_over_one_association(standin: StandIn, to: To, make_file: MakeFile, links: list[Any]) -> None:
    sender = to(standin.port, called="STANDIN")
    paths = [make_file() for _ in range(5)]
    assert [path for path, _ in sender.send(paths)] == paths
    assert [o.kind for o in outcomes(sender, make_file())] == ["stored"]
    assert len(links) == 1
    assert len(standin.received()) == 6


def test_an_outcome_comes_as_soon_as_it_is_known(standin: StandIn, to: To, make_file: MakeFile) -> None:
    sending = to(standin.port, called="STANDIN").send([make_file(), make_file()])
    next(sending)
    assert len(standin.received()) == 1


def test_an_object_of_another_kind_is_negotiated_anew(
    standin: StandIn, to: To, make_file: MakeFile, links: list[Any]
) -> None:
    sender = to(standin.port, called="STANDIN")
    explicit, implicit = make_file(), make_file(transfer_syntax=ImplicitVRLittleEndian)
    for path in (explicit, implicit, explicit, implicit):
        assert [o.kind for o in outcomes(sender, path)] == ["stored"]
    # The second association also proposes what the first one did, so that it is the last.
    assert len(links) == 2


@pytest.mark.slow
def test_more_kinds_than_an_association_holds_are_sent_over_several(
    standin: StandIn, to: To, make_file: MakeFile, links: list[Any]
) -> None:
    paths = [make_file(sop_class=uid) for uid in contexts.STORAGE[:140]]
    assert {o.kind for o in outcomes(to(standin.port, called="STANDIN"), *paths)} == {"stored"}
    assert [len(pairs) for pairs in links] == [128, 128]
    assert len(standin.received()) == 140


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (0xB000, "warning", "answered 0xB000, coercion of data elements"),
        (0xB007, "warning", "answered 0xB007, data set does not match SOP class"),
        (0xA700, "retry", "answered 0xA700, out of resources"),
        (0x0122, "retry", "answered 0x0122, SOP class not supported"),
        (0xA900, "permanent", "answered 0xA900, data set does not match SOP class"),
        (0xC123, "permanent", "answered 0xC123, cannot understand"),
        (0x0124, "permanent", "answered 0x0124, not authorised"),
    ],
)
def test_the_peers_status_decides(
    standin: StandIn, to: To, make_file: MakeFile, status: int, kind: str, words: str
) -> None:
    standin.answer = lambda uid: status
    bad = make_file()
    sender = to(standin.port, called="STANDIN")
    (outcome,) = outcomes(sender, bad)
    assert (outcome.status, outcome.kind, outcome.error) == (status, kind, words)
    # One refused object does not stop the next.
    standin.answer = None
    assert [o.kind for o in outcomes(sender, make_file())] == ["stored"]


def test_a_held_association_that_the_peer_ended_is_opened_again(tmp_path: Path, to: To, make_file: MakeFile) -> None:
    first = StandIn(tmp_path / "pacs")
    first.start()
    sender = to(first.port, called="STANDIN")
    assert [o.kind for o in outcomes(sender, make_file())] == ["stored"]
    first.stop()
    second = StandIn(tmp_path / "pacs", port=first_port(sender))
    second.start()
    try:
        assert [o.kind for o in outcomes(sender, make_file())] == ["stored"]
        assert len(second.received()) == 2
    finally:
        second.stop()


def first_port(sender: Sender) -> int:
    return sender._target.port


def test_idle_time_counts_from_the_last_object_and_ends_with_closing(
    standin: StandIn, to: To, make_file: MakeFile
) -> None:
    sender = to(standin.port, called="STANDIN")
    assert sender.idle_seconds == 0
    outcomes(sender, make_file())
    time.sleep(0.05)
    assert 0.05 <= sender.idle_seconds < 5
    sender.close()
    assert sender.idle_seconds == 0


@pytest.mark.dcmtk
def test_a_refused_context_is_permanent_and_spares_the_others(storescp: StoreSCP, to: To, make_file: MakeFile) -> None:
    port, _ = storescp()
    compressed = make_file(transfer_syntax=JPEGLSLossless)
    plain = make_file(transfer_syntax=ExplicitVRLittleEndian)
    refused, stored, again = outcomes(to(port), compressed, plain, compressed)
    assert (refused.status, refused.kind) == (None, "permanent")
    assert refused.error.endswith("accepts no Secondary Capture Image Storage in JPEG-LS Lossless Image Compression")
    assert (stored.kind, again) == ("stored", refused)


@pytest.mark.dcmtk
def test_an_association_without_any_accepted_context_is_permanent(
    storescp: StoreSCP, to: To, make_file: MakeFile
) -> None:
    port, _ = storescp()
    path = make_file(transfer_syntax=JPEGLSLossless)
    assert [o.kind for o in outcomes(to(port), path, path)] == ["permanent", "permanent"]


@pytest.mark.dcmtk
def test_a_permanent_rejection_is_permanent_for_all(storescp: StoreSCP, to: To, make_file: MakeFile) -> None:
    port, _ = storescp("--refuse")
    result = outcomes(to(port), make_file(), make_file())
    assert [o.kind for o in result] == ["permanent", "permanent"]
    assert "rejects the association permanently: no reason given" in result[0].error


@pytest.mark.dcmtk
def test_a_peer_with_odd_rules_that_we_obey_is_served(storescp: StoreSCP, to: To, make_file: MakeFile) -> None:
    # storescp --reject rejects whoever names no implementation class.
    port, _ = storescp("--reject")
    assert [o.kind for o in outcomes(to(port), make_file())] == ["stored"]


@pytest.mark.dcmtk
@pytest.mark.parametrize("when", ["--abort-after", "--abort-during"])
def test_an_abort_is_tried_again_later_and_stops_the_batch_at_the_second(
    storescp: StoreSCP, to: To, make_file: MakeFile, links: list[Any], when: str
) -> None:
    port, _ = storescp(when)
    result = outcomes(to(port), *[make_file() for _ in range(5)])
    assert {o.kind for o in result} == {"retry"}
    assert {o.status for o in result} == {None}
    assert result[0].error.endswith("aborted the association")
    assert len(links) == 2


def test_one_object_that_ends_associations_does_not_keep_the_others(
    standin: StandIn, to: To, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, bad, last = (make_file() for _ in range(3))
    store = Sender._store

    def lose(self: Sender, path: Path, form: Any) -> Outcome:
        if path != bad:
            return store(self, path, form)
        self.close()
        return Outcome(None, "it aborted the association", "retry")

    monkeypatch.setattr(Sender, "_store", lose)
    result = outcomes(to(standin.port, called="STANDIN"), first, bad, last)
    assert [o.kind for o in result] == ["stored", "retry", "stored"]


def test_what_was_not_tried_says_so(
    standin: StandIn, to: To, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sender, "_store", lambda *_: Outcome(None, "it aborted the association", "retry"))
    result = outcomes(to(standin.port, called="STANDIN"), *(make_file() for _ in range(3)))
    assert [o.error.startswith("not tried") for o in result] == [False, False, True]


@pytest.mark.dcmtk
def test_a_peer_that_falls_asleep_within_an_object_does_not_hold_us(
    storescp: StoreSCP, to: To, make_file: MakeFile
) -> None:
    port, _ = storescp("--sleep-during", "5")
    started = time.monotonic()
    (outcome,) = outcomes(to(port, timeout=0.5), make_file(50_000))
    assert time.monotonic() - started < 3
    assert (outcome.kind, outcome.status) == ("retry", None)
    assert outcome.error.endswith("did not answer in time")


@pytest.mark.dcmtk
@pytest.mark.parametrize("size", [100, 12_000_000])
def test_a_stopped_process_does_not_hold_us(
    storescp: StoreSCP, to: To, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    # At this rate the large object, which fills every buffer, gets two seconds.
    monkeypatch.setattr("node.network.sender.SLOWEST", 6_000_000)
    port, process = storescp()
    sender = to(port, timeout=0.5)
    first, large = make_file(), make_file(size)
    assert [o.kind for o in outcomes(sender, first)] == ["stored"]
    process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    (outcome,) = outcomes(sender, large)
    assert outcome.kind == "retry"
    # A stale association is tried once more, on a new one: twice the time at most.
    assert time.monotonic() - started < 8
    sender.close()
    process.send_signal(signal.SIGCONT)


def test_nothing_listening_is_tried_again_later_and_asked_once(to: To, make_file: MakeFile, links: list[Any]) -> None:
    port = free_port()
    result = outcomes(to(port), make_file(), make_file())
    assert [o.kind for o in result] == ["retry", "retry"]
    assert f"nothing listens at 127.0.0.1:{port}" in result[0].error
    assert len(links) == 1


def test_a_file_that_is_gone_is_not_sent_and_the_next_one_is(
    standin: StandIn, to: To, make_file: MakeFile, tmp_path: Path
) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("no data set")
    result = outcomes(to(standin.port, called="STANDIN"), tmp_path / "gone.dcm", text, make_file())
    assert [o.kind for o in result] == ["permanent", "permanent", "stored"]
    assert "missing" in result[0].error
    assert "not a DICOM file" in result[1].error


def test_an_echo_takes_some_time(standin: StandIn, to: To) -> None:
    assert 0 < to(standin.port, called="STANDIN").echo() < 5


def test_an_echo_to_a_wrong_called_ae_title_says_what_to_correct(standin: StandIn, to: To) -> None:
    with pytest.raises(AssociationFailed) as failed:
        to(standin.port, called="ELSEWHERE").echo()
    assert failed.value.permanent
    assert str(failed.value) == (
        f'"ELSEWHERE" at 127.0.0.1:{standin.port} rejects the association permanently: called AE title not '
        "recognised: correct ae_title in this peer's settings here, or the AE title there"
    )


def test_an_echo_from_an_unknown_calling_ae_title_says_what_to_add_there(
    listening: Callable[..., Any], owner: Any, to: To
) -> None:
    from node.network.incoming import Rejection

    owner.rejection = lambda r: Rejection(1, 1, 3, "calling")
    with pytest.raises(AssociationFailed, match='add "OVERREAD" with this machine\'s address to the known AE titles'):
        to(listening(ae_title="PACS").port, called="PACS").echo()


def test_an_echo_to_a_full_peer_is_no_permanent_failure(listening: Callable[..., Any], to: To) -> None:
    listener = listening(ae_title="PACS", max_associations=1)
    with socket.create_connection(("127.0.0.1", listener.port)):
        holding = to(listener.port, called="PACS")
        held = link.open_link(holding._target, [("1.2.840.10008.1.1", ImplicitVRLittleEndian)])
        with pytest.raises(AssociationFailed, match="for now: local limit exceeded") as failed:
            to(listener.port, called="PACS").echo()
        assert not failed.value.permanent
        held.close()


def test_an_echo_to_nobody_says_so(to: To) -> None:
    port = free_port()
    with pytest.raises(AssociationFailed, match=f"nothing listens at 127.0.0.1:{port}: start the peer's DICOM service"):
        to(port).echo()


def test_an_echo_to_an_unknown_host_says_so(to: To) -> None:
    with pytest.raises(AssociationFailed, match=r'the host name "pacs\.invalid" is not known here'):
        to(104, host="pacs.invalid").echo()


@pytest.fixture
def raw() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """A TCP server that does one thing to whoever connects; gives its port."""
    servers: list[socket.socket] = []

    def start(behave: Callable[[socket.socket], None]) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            try:
                connection, _ = server.accept()
                with connection:
                    behave(connection)
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        return int(server.getsockname()[1])

    yield start
    for server in servers:
        server.close()


def test_an_echo_to_a_port_that_keeps_silent_says_so(raw: Callable[..., int], to: To) -> None:
    done = threading.Event()
    port = raw(lambda connection: done.wait(10))
    started = time.monotonic()
    with pytest.raises(AssociationFailed, match=r"does not answer the association request within 0\.3 s"):
        to(port, timeout=0.3).echo()
    assert time.monotonic() - started < 2
    done.set()


def test_a_connection_that_nobody_takes_is_given_up_in_time(to: To, make_file: MakeFile) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as waiting:
        for _ in range(3):  # as many as its queue holds, and more; the next one gets no answer
            other = waiting.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(server.getsockname())
        started = time.monotonic()
        (outcome,) = outcomes(to(server.getsockname()[1], timeout=0.5), make_file())
        assert (outcome.status, outcome.kind) == (None, "retry")
        assert 0.4 < time.monotonic() - started < 3


def test_an_echo_to_a_port_that_hangs_up_says_so(raw: Callable[..., int], to: To) -> None:
    port = raw(lambda connection: connection.recv(1))
    with pytest.raises(AssociationFailed, match="closes the connection without an answer: is that its DICOM port"):
        to(port).echo()


def test_an_echo_to_a_peer_that_aborts_says_so(raw: Callable[..., int], to: To) -> None:
    def abort(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00")
        connection.recv(1)

    with pytest.raises(AssociationFailed, match="aborts instead of answering the association request"):
        to(raw(abort)).echo()


def test_a_rejection_counts_even_when_the_peer_hangs_up_before_we_look(
    standin: StandIn, to: To, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_late(event: Any) -> None:
        time.sleep(0.2)

    original = link.Link.handlers
    monkeypatch.setattr(link.Link, "handlers", lambda self: [*original(self), (evt.EVT_REQUESTED, look_late)])
    (outcome,) = outcomes(to(standin.port, called="ELSEWHERE"), make_file())
    assert outcome.kind == "permanent"
    assert "called AE title not recognised" in outcome.error


def test_a_peer_that_drips_its_answer_does_not_hold_us(raw: Callable[..., int], to: To) -> None:
    def drip(connection: socket.socket) -> None:
        for byte in b"\x02\x00\x00\x00\x10\x00" + bytes(100):
            connection.sendall(bytes([byte]))
            time.sleep(0.2)

    port = raw(drip)
    started = time.monotonic()
    with pytest.raises(AssociationFailed):
        to(port, timeout=0.4).echo()
    assert time.monotonic() - started < 5


def test_a_held_association_spares_the_40_ms_of_nagles_algorithm(standin: StandIn, to: To, make_file: MakeFile) -> None:
    sender = to(standin.port, called="STANDIN")
    path = make_file()
    outcomes(sender, path)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        outcomes(sender, path)
        seconds.append(time.perf_counter() - started)
    until(lambda: len(standin.received()) == 1)
    assert min(seconds) < 0.035
