"""Streaming receive, against pynetdicom's own path and against odd peers."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peers import Owner, data_set_of, until
from pydicom import dcmread
from pydicom.data import get_testdata_file
from wire import ABORT, COMMAND, ECHO, INSTANCE, LAST, Wire, in_pieces, p_data, pdv, store_request

from node.network import stream
from node.network.incoming import Status
from node.network.listener import Listener
from node.storage.spool import digest_of

Listening = Callable[..., Listener]
DATA = data_set_of(Path(get_testdata_file("SC_rgb_small_odd.dcm")))
WHOLE = p_data(pdv(store_request(), COMMAND | LAST))


@pytest.fixture
def wire(listening: Listening) -> Any:
    with Wire(listening().port) as found:
        found.associate()
        yield found


def stored(owner: Owner, number: int = 0) -> bytes:
    return data_set_of(owner.kept / f"{number}.dcm")


def test_a_data_set_arrives_as_it_is_and_is_hashed_on_the_way(wire: Wire, owner: Owner) -> None:
    wire.send(WHOLE + p_data(*in_pieces(DATA, len(DATA))))
    assert wire.status() == 0x0000
    assert stored(owner) == DATA
    (incoming,) = owner.received
    assert incoming.digest == digest_of(owner.kept / "0.dcm")
    assert (incoming.sop_instance_uid, incoming.transfer_syntax_uid) == (INSTANCE, "1.2.840.10008.1.2.1")


def test_the_file_is_the_one_that_pynetdicom_would_have_written(
    listening: Listening, owner: Owner, folder: Path
) -> None:
    for streaming in (True, False):
        with Wire(listening(streaming=streaming).port) as wire:
            wire.associate()
            wire.send(WHOLE + p_data(*in_pieces(DATA, len(DATA))))
            assert wire.status() == 0x0000
    one, other = (dcmread(owner.kept / f"{n}.dcm", force=True) for n in (0, 1))
    for file in (one, other):
        # who wrote it is said there; of its own path that is pynetdicom
        del file.file_meta.ImplementationClassUID, file.file_meta.ImplementationVersionName
        del file.file_meta.FileMetaInformationGroupLength
    assert one.file_meta == other.file_meta and one == other
    assert [bool(i.digest) for i in owner.received] == [True, False]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_data_set_may_come_in_fragments_of_any_size(wire: Wire, owner: Owner, size: int) -> None:
    data = DATA[:3000]
    wire.send(WHOLE + b"".join(p_data(piece) for piece in in_pieces(data, size)))
    assert wire.status() == 0x0000 and stored(owner) == data


def test_several_fragments_may_share_a_pdu_also_with_the_command(wire: Wire, owner: Owner) -> None:
    wire.send(p_data(pdv(store_request(), COMMAND | LAST), *in_pieces(DATA, 500)))
    assert wire.status() == 0x0000 and stored(owner) == DATA


def test_a_pdu_may_come_byte_by_byte(wire: Wire, owner: Owner) -> None:
    for byte in WHOLE + p_data(*in_pieces(DATA[:100], 100)):
        wire.send(bytes([byte]))
    assert wire.status() == 0x0000 and stored(owner) == DATA[:100]


def test_one_instance_follows_another_on_either_path(wire: Wire, owner: Owner) -> None:
    command = store_request()
    parted = p_data(pdv(command[:40], COMMAND), pdv(command[40:], COMMAND | LAST))
    for number, head in enumerate([WHOLE, parted, WHOLE, parted]):
        wire.send(head + p_data(*in_pieces(DATA, 700)))
        assert wire.status() == 0x0000 and stored(owner, number) == DATA
    # a command in two parts is pynetdicom's
    assert [bool(i.digest) for i in owner.received] == [True, False, True, False]


def test_an_empty_data_set_is_shown_to_the_owner(wire: Wire, owner: Owner) -> None:
    wire.send(WHOLE + p_data(pdv(b"", LAST)))
    assert wire.status() == 0x0000 and stored(owner) == b""


def test_a_peer_that_takes_tiny_pdus_is_answered_in_several(listening: Listening, owner: Owner) -> None:
    with Wire(listening().port) as wire:
        wire.associate(maximum_length=64)
        wire.send(WHOLE + p_data(*in_pieces(DATA, len(DATA))))
        assert wire.status() == 0x0000 and stored(owner) == DATA


def test_an_answer_says_why_in_what_an_lo_can_hold(wire: Wire, owner: Owner) -> None:
    owner.answer = lambda _: Status(0xA900, "no\\such " + "ä" * 80)
    wire.send(WHOLE + p_data(pdv(b"x", LAST)))
    answer = wire.read()
    assert answer and b"no/such ????" in answer[1] and answer[1].count(b"?") == 56


@pytest.mark.parametrize(
    "odd",
    [
        p_data(pdv(b"data", LAST)),
        WHOLE + p_data(pdv(b"data", 0), pdv(store_request(), COMMAND | LAST)),
        WHOLE + p_data(pdv(b"data", 0, context=ECHO)),
        WHOLE + p_data(b"\0\0\0\x01\x01\0"),
        WHOLE + p_data(b"\0\0\xff\xff\x01\0data"),
        WHOLE + p_data(b"\0\0\0"),
        WHOLE + p_data(pdv(b"data", LAST), pdv(b"more", LAST)),
    ],
    ids=[
        "data without a command",
        "a command within a data set",
        "another context",
        "a length of one",
        "a length beyond the PDU",
        "half a header",
        "data behind the last fragment",
    ],
)
def test_what_is_no_message_ends_the_association_and_leaves_nothing(
    listening: Listening, owner: Owner, folder: Path, odd: bytes
) -> None:
    with Wire(listening().port) as wire:
        wire.associate()
        wire.send(odd)
        assert (answer := wire.read()) is None or answer[0] == ABORT
    until(lambda: list(owner.ended.values()) == ["aborted"])
    until(lambda: not list(folder.iterdir()))


def test_a_peer_that_goes_in_mid_instance_leaves_nothing(listening: Listening, owner: Owner, folder: Path) -> None:
    with Wire(listening().port) as wire:
        wire.associate()
        wire.send(WHOLE + p_data(pdv(DATA, 0)))
        until(lambda: list(folder.iterdir()))
    until(lambda: list(owner.ended.values()) == ["aborted"])
    assert not list(folder.iterdir()) and not owner.received


def test_a_full_disk_is_answered_and_the_association_goes_on(
    wire: Wire, owner: Owner, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    wire.send(WHOLE + b"".join(p_data(piece) for piece in in_pieces(DATA, 1500)))
    assert wire.status() == 0xA700
    until(lambda: not list(folder.iterdir()))
    assert not owner.received
    wire.send(WHOLE + p_data(*in_pieces(DATA[:500], 500)))
    assert wire.status() == 0x0000 and stored(owner) == DATA[:500]


def test_the_file_for_an_instance_that_does_not_come_goes(wire: Wire, owner: Owner, folder: Path) -> None:
    for _ in range(2):
        wire.send(WHOLE + p_data(*in_pieces(DATA, 700)))
        assert wire.status() == 0x0000
    until(lambda: not list(folder.iterdir()))
    wire.send(WHOLE + p_data(*in_pieces(DATA, 700)))
    assert wire.status() == 0x0000 and stored(owner, 2) == DATA


def test_a_file_that_could_not_be_made_ahead_is_made_when_it_is_needed(
    wire: Wire, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, ahead = os.open, []

    def opened(path: Any, *rest: Any) -> int:
        if str(path).endswith(".part") and owner.received and not ahead:
            ahead.append(path)
            raise OSError(errno.ENFILE, "Too many open files in system")
        return made(path, *rest)

    monkeypatch.setattr(os, "open", opened)
    for number in range(2):
        wire.send(WHOLE + p_data(*in_pieces(DATA, 700)))
        assert wire.status() == 0x0000 and stored(owner, number) == DATA
    assert ahead


def test_a_short_write_is_completed(wire: Wire, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:100]))
    wire.send(WHOLE + p_data(*in_pieces(DATA, len(DATA))))
    assert wire.status() == 0x0000 and stored(owner) == DATA


def test_an_instance_above_the_limit_is_not_written_further_and_its_sender_is_told(
    listening: Listening, owner: Owner, folder: Path
) -> None:
    with Wire(listening(instance_limit=10_000).port) as wire:
        wire.associate()
        wire.send(WHOLE + p_data(pdv(b"x" * 20_000, 0)))
        until(lambda: not list(folder.iterdir()))
        wire.send(p_data(pdv(b"x" * 20_000, LAST)))
        assert wire.status() == 0xA700
        wire.send(WHOLE + p_data(*in_pieces(DATA[:500], 500)))
        assert wire.status() == 0x0000 and len(owner.received) == 1


@pytest.mark.parametrize("known", ["2.9.", "4."])
def test_another_pynetdicom_falls_back_to_its_own_path(
    listening: Listening, owner: Owner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, known: str
) -> None:
    monkeypatch.setattr(stream, "KNOWN", known)
    with caplog.at_level(logging.WARNING), Wire(listening().port) as wire:
        wire.associate()
        wire.send(WHOLE + p_data(*in_pieces(DATA, len(DATA))))
        assert wire.status() == 0x0000 and stored(owner) == DATA
    assert "listener.stock-path" in caplog.text and known in caplog.text
    assert not owner.received[0].digest


def test_what_is_lacking_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pynetdicom.dul import DULServiceProvider

    assert stream.supported() == ""
    monkeypatch.delattr(DULServiceProvider, "kill_dul")
    assert stream.supported() == "DULServiceProvider.kill_dul"
