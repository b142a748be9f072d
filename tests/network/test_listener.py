"""The listener against DCMTK's clients, pynetdicom as a client, and sockets that misbehave."""

from __future__ import annotations

import logging
import re
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peers import SECONDARY_CAPTURE, Owner, data_set_of, until
from pydicom import dcmread
from pydicom.uid import (
    HTJ2K,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, evt

from node.errors import SettingsError
from node.network.incoming import Rejection, Requestor, Status
from node.network.listener import Listener
from node.network.orthanc import free_port
from node.network.sender import Sender

Listening = Callable[..., Listener]
Run = Callable[..., subprocess.CompletedProcess[str]]

JPIP_REFERENCED = "1.2.840.10008.1.2.4.94"
CALLING_NOT_RECOGNISED = Rejection(1, 1, 3, "calling")


def associate(port: int, *transfer_syntaxes: str, called: str = "OVERREAD", **options: Any) -> Any:
    ae = AE("CLIENT")
    ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = 5
    ae.add_requested_context(SECONDARY_CAPTURE, list(transfer_syntaxes) or [ExplicitVRLittleEndian])
    return ae.associate("127.0.0.1", port, ae_title=called, **options)


def send(listener: Listener, *paths: Path) -> list[Any]:
    sender = Sender(
        calling_ae_title="CLIENT", called_ae_title="OVERREAD", host="127.0.0.1", port=listener.port, timeout=5
    )
    outcomes = [outcome for _, outcome in sender.send(paths)]
    sender.close()
    return outcomes


@pytest.mark.dcmtk
def test_an_echo_is_answered(listening: Listening, dcmtk: Run, owner: Owner) -> None:
    listener = listening()
    said = dcmtk("echoscu", "-v", "-aec", "OVERREAD", "127.0.0.1", listener.port)
    assert said.returncode == 0
    assert "Received Echo Response (Success)" in said.stderr
    until(lambda: list(owner.ended.values()) == ["released"])


@pytest.mark.dcmtk
def test_a_wrong_called_ae_title_is_rejected_by_that_name(listening: Listening, dcmtk: Run, owner: Owner) -> None:
    said = dcmtk("echoscu", "-aec", "ELSEWHERE", "127.0.0.1", listening().port)
    assert "Result: Rejected Permanent, Source: Service User" in said.stderr
    assert "Reason: Called AE Title Not Recognized" in said.stderr
    assert not owner.accepted


@pytest.mark.dcmtk
def test_an_unknown_calling_ae_title_is_rejected_by_that_name(listening: Listening, dcmtk: Run, owner: Owner) -> None:
    owner.rejection = lambda r: None if r.calling_ae_title == "MODALITY" else CALLING_NOT_RECOGNISED
    port = listening().port
    said = dcmtk("echoscu", "-aet", "STRANGER", "-aec", "OVERREAD", "127.0.0.1", port)
    assert "Result: Rejected Permanent, Source: Service User" in said.stderr
    assert "Reason: Calling AE Title Not Recognized" in said.stderr
    assert dcmtk("echoscu", "-aet", "MODALITY", "-aec", "OVERREAD", "127.0.0.1", port).returncode == 0
    assert [r.calling_ae_title for r in owner.accepted.values()] == ["MODALITY"]


def test_admission_can_go_by_address(listening: Listening, owner: Owner) -> None:
    owner.rejection = lambda r: CALLING_NOT_RECOGNISED if r.address == "127.0.0.1" else None
    assoc = associate(listening().port)
    assert assoc.is_rejected
    answer = assoc.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 3)


def test_the_requestor_is_named_without_padding(listening: Listening, owner: Owner) -> None:
    assoc = associate(listening().port)
    assoc.release()
    (requestor,) = owner.accepted.values()
    assert requestor == Requestor("CLIENT", "OVERREAD", "127.0.0.1", requestor.port)
    assert requestor.port > 0
    assert all(re.fullmatch("[0-9a-f]{12}", association) for association in owner.accepted)


def test_an_association_that_cannot_be_written_down_is_rejected_for_now(listening: Listening, owner: Owner) -> None:
    def fail() -> None:
        raise RuntimeError("the database is gone")

    owner.accepting = fail
    assoc = associate(listening().port)
    assert assoc.is_rejected
    assert assoc.acceptor.primitive.result == 2
    owner.accepting = lambda: None
    assert not owner.ended


def test_an_admission_that_fails_rejects(listening: Listening, owner: Owner) -> None:
    def fail(requestor: Requestor) -> Rejection | None:
        raise KeyError(requestor.calling_ae_title)

    owner.rejection = fail
    assert associate(listening().port).is_rejected
    assert not owner.accepted


def test_a_rejection_that_the_standard_does_not_know_still_rejects(listening: Listening, owner: Owner) -> None:
    owner.rejection = lambda r: Rejection(1, 9, 9, "odd")
    assert associate(listening().port).is_rejected
    assert not owner.accepted


@pytest.mark.dcmtk
def test_one_association_too_many_is_rejected_for_now(listening: Listening, dcmtk: Run, owner: Owner) -> None:
    port = listening(max_associations=1).port
    first = associate(port)
    said = dcmtk("echoscu", "-aec", "OVERREAD", "127.0.0.1", port)
    assert "Result: Rejected Transient" in said.stderr
    assert "Reason: Local Limit Exceeded" in said.stderr
    first.release()
    until(lambda: owner.ended)
    assert dcmtk("echoscu", "-aec", "OVERREAD", "127.0.0.1", port).returncode == 0


@pytest.mark.dcmtk
@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("-xe", "CT_small.dcm"),
        ("-xi", "rtdose_1frame.dcm"),
        ("-xs", "SC_rgb_jpeg_gdcm.dcm"),
        ("-xy", "SC_rgb_small_odd_jpeg.dcm"),
        ("-xx", "JPGExtended.dcm"),
        ("-xv", "MR_small_jp2klossless.dcm"),
        ("-xw", "JPEG2000.dcm"),
        ("-xt", "MR_small_jpeg_ls_lossless.dcm"),
        ("-xu", "JPEGLSNearLossless_08.dcm"),
        ("-xr", "MR_small_RLE.dcm"),
    ],
)
def test_storescu_sends_each_of_its_transfer_syntaxes(
    listening: Listening, dcmtk: Run, owner: Owner, pydicom_file: Callable[[str], Path], option: str, name: str
) -> None:
    path = pydicom_file(name)
    said = dcmtk("storescu", "-v", "-R", option, "-aec", "OVERREAD", "127.0.0.1", listening().port, path)
    assert said.returncode == 0, said.stderr
    (incoming,) = owner.received
    sent, kept = dcmread(path), dcmread(owner.kept / "0.dcm")
    assert incoming.transfer_syntax_uid == sent.file_meta.TransferSyntaxUID == kept.file_meta.TransferSyntaxUID
    assert incoming.sop_class_uid == sent.SOPClassUID == kept.SOPClassUID
    assert incoming.sop_instance_uid == sent.SOPInstanceUID == kept.SOPInstanceUID
    assert kept.PixelData == sent.PixelData


@pytest.mark.dcmtk
@pytest.mark.data
@pytest.mark.parametrize("name", ["966_fixed.dcm", "RG2_JPLL.dcm", "RG2_JLSN.dcm", "RG2_JPLY_fixed.dcm"])
def test_dcmsend_sends_real_radiographs_without_decompressing_them(
    listening: Listening, dcmtk: Run, owner: Owner, dicom_dir: Path, name: str
) -> None:
    path = dicom_dir / name
    said = dcmtk("dcmsend", "-v", "-aec", "OVERREAD", "127.0.0.1", listening().port, path)
    assert said.returncode == 0, said.stderr
    (incoming,) = owner.received
    sent = dcmread(path)
    assert incoming.transfer_syntax_uid == sent.file_meta.TransferSyntaxUID
    assert dcmread(owner.kept / "0.dcm").PixelData == sent.PixelData


@pytest.mark.parametrize(
    ("name", "transfer_syntax"),
    [
        ("MR_small_jp2klossless.dcm", HTJ2KLossless),
        ("MR_small_jp2klossless.dcm", HTJ2KLosslessRPCL),
        ("JPEG2000.dcm", HTJ2K),
        ("SC_rgb_jpeg_gdcm.dcm", JPEGLossless),
        ("CT_small.dcm", ExplicitVRLittleEndian),
    ],
)
def test_the_data_set_is_kept_byte_by_byte(
    listening: Listening,
    owner: Owner,
    pydicom_file: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    transfer_syntax: str,
) -> None:
    # Nothing on the way decodes, so that a relabelled file stands for the ones that nobody here can write (HTJ2K).
    ds = dcmread(pydicom_file(name))
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    path = tmp_path / name
    ds.save_as(path, enforce_file_format=True)
    assert [o.kind for o in send(listening(), path)] == ["stored"]
    assert data_set_of(owner.kept / "0.dcm") == data_set_of(path)
    assert dcmread(owner.kept / "0.dcm").file_meta.TransferSyntaxUID == transfer_syntax


@pytest.mark.parametrize("uid", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, MPEG2MPML, JPIP_REFERENCED])
def test_what_the_node_cannot_decode_is_not_negotiated(listening: Listening, uid: str) -> None:
    # An association without any accepted context: pynetdicom as a requestor aborts it.
    assoc = associate(listening().port, uid)
    assert not assoc.accepted_contexts
    assert [context.result for context in assoc.rejected_contexts] == [0x04]


@pytest.mark.parametrize(
    ("proposed", "accepted"),
    [
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless], RLELossless),
        ([RLELossless, JPEGLosslessSV1, JPEGLSLossless], JPEGLSLossless),
        ([HTJ2K, ImplicitVRLittleEndian, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([HTJ2K, ImplicitVRLittleEndian], ImplicitVRLittleEndian),
    ],
)
def test_of_a_combined_proposal_the_least_lossy_smallest_is_taken(
    listening: Listening, proposed: list[str], accepted: str
) -> None:
    assoc = associate(listening().port, *proposed)
    assert [context.transfer_syntax[0] for context in assoc.accepted_contexts] == [accepted]
    assoc.release()


@pytest.mark.dcmtk
def test_a_peer_that_offers_more_than_it_can_encode_is_asked_for_uncompressed(
    listening: Listening, dcmtk: Run, owner: Owner, pydicom_file: Callable[[str], Path]
) -> None:
    port = listening(prefer_uncompressed=lambda calling: calling == "MODALITY").port
    path = pydicom_file("CT_small.dcm")
    offer = ("-R", "+C", "-xt", "-aec", "OVERREAD")
    said = dcmtk("storescu", *offer, "-aet", "MODALITY", "127.0.0.1", port, path)
    assert said.returncode == 0, said.stderr
    assert owner.received[0].transfer_syntax_uid == ExplicitVRLittleEndian
    # The same offer from a peer without that preference: taken at its word, it fails.
    assert dcmtk("storescu", *offer, "-aet", "OTHER", "127.0.0.1", port, path).returncode != 0


def test_an_instance_is_received_into_the_given_folder_and_readable_by_its_owner_only(
    listening: Listening, owner: Owner, folder: Path, make_file: Callable[..., Path]
) -> None:
    modes = []

    def look(incoming: Any) -> Status:
        modes.append((incoming.path.parent, stat.S_IMODE(incoming.path.stat().st_mode)))
        return Status(0x0000)

    owner.answer = look
    send(listening(), make_file())
    assert modes == [(folder, 0o600)]
    assert len(list(owner.kept.iterdir())) == 1


def test_what_the_callback_does_not_take_is_deleted(
    listening: Listening, owner: Owner, folder: Path, make_file: Callable[..., Path]
) -> None:
    owner.answer = lambda incoming: Status(0xA900)
    assert [o.status for o in send(listening(), make_file())] == [0xA900]
    until(lambda: owner.ended)
    until(lambda: not list(folder.iterdir()))


def test_an_error_comment_reaches_the_sender_cut_to_an_lo(
    listening: Listening, owner: Owner, make_file: Callable[..., Path]
) -> None:
    owner.answer = lambda incoming: Status(0xC000, "não\\ " + "x" * 100)
    (outcome,) = send(listening(), make_file())
    assert outcome.status == 0xC000
    assert outcome.error == f"answered 0xC000, cannot understand (n?o/ {'x' * 59})"


@pytest.mark.parametrize(("error", "status"), [(OSError, 0xA700), (ValueError, 0x0110), (KeyError, 0x0110)])
def test_a_callback_that_fails_becomes_a_status_and_a_log_line_without_content(
    listening: Listening,
    owner: Owner,
    make_file: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
    status: int,
) -> None:
    def fail(incoming: Any) -> Status:
        raise error(str(dcmread(incoming.path).PatientName))

    owner.answer = fail
    with caplog.at_level(logging.DEBUG):
        outcomes = send(listening(), make_file(), make_file())
    assert [o.status for o in outcomes] == [status, status]
    assert f"error={error.__name__}" in caplog.text
    assert "Canary" not in caplog.text


def test_an_instance_above_the_limit_is_refused_and_not_shown(
    listening: Listening, owner: Owner, folder: Path, make_file: Callable[..., Path]
) -> None:
    outcomes = send(listening(instance_limit=100_000), make_file(200_000), make_file(50_000))
    assert [o.status for o in outcomes] == [0xA700, 0x0000]
    assert len(owner.received) == 1
    until(lambda: not list(folder.iterdir()))


@pytest.mark.dcmtk
def test_an_association_that_ends_by_abort_is_told_so(
    listening: Listening, dcmtk: Run, owner: Owner, pydicom_file: Callable[[str], Path]
) -> None:
    dcmtk("storescu", "--abort", "-aec", "OVERREAD", "127.0.0.1", listening().port, pydicom_file("CT_small.dcm"))
    until(lambda: list(owner.ended.values()) == ["aborted"])
    assert len(owner.received) == 1


def test_an_association_that_dies_within_an_instance_leaves_nothing_behind(
    listening: Listening, owner: Owner, folder: Path, make_file: Callable[..., Path]
) -> None:
    written = []

    def cut(event: Any) -> None:
        if len(event.data) > 100_000:
            until(lambda: list(folder.iterdir()))
            written.extend(folder.iterdir())
            event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)

    assoc = associate(listening().port, evt_handlers=[(evt.EVT_DATA_SENT, cut)])
    assert "Status" not in assoc.send_c_store(make_file(1_000_000))
    until(lambda: list(owner.ended.values()) == ["aborted"])
    assert len(written) == 1
    until(lambda: not list(folder.iterdir()))
    assert not owner.received
    assoc.dul.socket and assoc.dul.socket.socket and assoc.dul.socket.socket.close()


@pytest.mark.dcmtk
def test_two_associations_at_once_do_not_mix(
    listening: Listening, owner: Owner, make_file: Callable[..., Path], program: Callable[[str], str]
) -> None:
    together = threading.Barrier(2, timeout=10)
    seen: dict[str, list[str]] = {}

    def meet(incoming: Any) -> Status:
        if incoming.association not in seen:
            together.wait()
        seen.setdefault(incoming.association, []).append(incoming.sop_instance_uid)
        return Status(0xB000)

    owner.answer = meet
    batches = [[make_file(200_000) for _ in range(3)] for _ in range(2)]
    port = str(listening().port)
    running = [
        subprocess.Popen([program("storescu"), "-R", "-aec", "OVERREAD", "127.0.0.1", port, *batch])
        for batch in batches
    ]
    assert [process.wait(timeout=30) for process in running] == [0, 0]
    assert sorted(seen.values()) == sorted([path.stem for path in batch] for batch in batches)


def test_stop_lets_a_running_association_finish(
    listening: Listening, owner: Owner, make_file: Callable[..., Path]
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(incoming: Any) -> Status:
        started.set()
        assert go_on.wait(10)
        return Status(0x0000)

    owner.answer = slow
    listener = listening()
    outcomes: list[Any] = []
    path = make_file()
    sending = threading.Thread(target=lambda: outcomes.extend(send(listener, path)))
    sending.start()
    assert started.wait(10)
    stopping = threading.Thread(target=listener.stop, args=(10.0,))
    stopping.start()
    time.sleep(0.1)
    go_on.set()
    sending.join(10)
    stopping.join(10)
    assert [o.kind for o in outcomes] == ["stored"]
    assert list(owner.ended.values()) == ["released"]


def test_stop_waits_for_what_is_done_at_an_associations_end(listening: Listening, owner: Owner) -> None:
    ended, go_on = owner.on_end, threading.Event()
    began = threading.Event()

    def slow(association: str, how: str) -> None:
        began.set()
        assert go_on.wait(10)
        ended(association, how)

    owner.on_end = slow  # type: ignore[method-assign]
    listener = listening()
    associate(listener.port).release()
    assert began.wait(10)
    stopping = threading.Thread(target=listener.stop, args=(10.0,))
    stopping.start()
    stopping.join(0.3)
    assert stopping.is_alive()
    go_on.set()
    stopping.join(10)
    assert list(owner.ended.values()) == ["released"]


def test_stop_does_not_wait_for_peers_that_are_silent(listening: Listening, owner: Owner) -> None:
    listener = listening()
    half_a_pdu = b"\x01\x00\x00\x00\x01\x00"
    with (
        socket.create_connection(("127.0.0.1", listener.port)),
        socket.create_connection(("127.0.0.1", listener.port)) as half,
    ):
        half.sendall(half_a_pdu)
        idle = associate(listener.port)
        assert idle.is_established
        started = time.monotonic()
        listener.stop(0.3)
        assert 0.3 <= time.monotonic() - started < 3.0
        until(lambda: list(owner.ended.values()) == ["aborted"])
        until(lambda: not idle.is_established)


def test_stop_does_not_wait_for_a_peer_that_stops_within_a_pdu(listening: Listening, owner: Owner) -> None:
    listener = listening()
    assoc = associate(listener.port)
    # The header of a P-DATA-TF that promises 100 bytes; the listener's reader now waits for them.
    assoc.dul.socket.socket.sendall(b"\x04\x00\x00\x00\x00\x64")
    time.sleep(0.1)
    started = time.monotonic()
    listener.stop(0.0)
    assert time.monotonic() - started < 4.0
    until(lambda: list(owner.ended.values()) == ["aborted"])


def test_stop_does_not_wait_for_a_callback_that_hangs(
    listening: Listening, owner: Owner, make_file: Callable[..., Path]
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def hang(incoming: Any) -> Status:
        started.set()
        go_on.wait(20)
        return Status(0x0000)

    owner.answer = hang
    listener = listening()
    path = make_file()
    sending = threading.Thread(target=send, args=(listener, path))
    sending.start()
    assert started.wait(10)
    at = time.monotonic()
    listener.stop(0.0)
    assert time.monotonic() - at < 5.0
    go_on.set()
    sending.join(15)
    until(lambda: list(owner.ended.values()) == ["aborted"])


def test_after_stop_nobody_is_served_and_stopping_again_is_harmless(listening: Listening) -> None:
    listener = listening()
    port = listener.port
    listener.stop(0.0)
    listener.stop(0.0)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_port_in_use_is_named(listening: Listening) -> None:
    port = listening().port
    with pytest.raises(SettingsError, match=rf'bind = "127.0.0.1", port = {port}.*Address already in use'):
        listening(port=port)


def test_an_address_of_another_machine_is_named(listening: Listening) -> None:
    with pytest.raises(SettingsError, match=r'bind = "192.0.2.1"'):
        listening(bind="192.0.2.1", port=free_port())


def test_an_association_does_not_pay_for_the_number_of_contexts(listening: Listening) -> None:
    port = listening().port
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        assoc = associate(port)
        seconds.append(time.perf_counter() - started)
        assoc.release()
    # 170 SOP classes in 14 transfer syntaxes, copied for each association, would take a tenth of a second.
    assert min(seconds) < 0.05
