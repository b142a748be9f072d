"""DICOM over TLS in both directions, against DCMTK and against ourselves."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from peers import Owner, data_set_of, until
from pydicom import dcmread
from pydicom.data import get_testdata_file

from node.errors import AssociationFailed, SettingsError
from node.network import tls
from node.network.listener import Listener
from node.network.orthanc import free_port
from node.network.sender import Sender
from node.network.tls import Files, Identity

Listening = Callable[..., Listener]
FILE = Path(get_testdata_file("CT_small.dcm"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def node(authority: Authority) -> Files:
    return authority.files("node")


@pytest.fixture(scope="module")
def peer(authority: Authority) -> Files:
    return authority.files("peer")


@pytest.fixture
def secured(listening: Listening, node: Files) -> Listener:
    return listening(port=None, secure_port=0, identity=Identity(node))


def sender(port: int | None, files: Files, *, fingerprint: str = "", host: str = "127.0.0.1") -> Sender:
    assert port
    return Sender(
        calling_ae_title="CLIENT",
        called_ae_title="OVERREAD",
        host=host,
        port=port,
        timeout=5,
        identity=Identity(files),
        fingerprint=fingerprint,
    )


def refusal(asked: Sender) -> str:
    with pytest.raises(AssociationFailed) as caught:
        asked.echo()
    return str(caught.value)


def certified(files: Files) -> list[str]:
    """DCMTK's options."""
    return ["+tls", str(files.key), str(files.certificate), "+cf", str(files.authorities)]


# --- in --------------------------------------------------------------------------------------------------------------


def test_both_sides_show_who_they_are(secured: Listener, owner: Owner, peer: Files) -> None:
    client = sender(secured.secure_port, peer)
    outcomes = [outcome.status for _, outcome in client.send([FILE, FILE])]
    client.close()
    assert outcomes == [0x0000, 0x0000]
    assert data_set_of(owner.kept / "0.dcm") == data_set_of(FILE)
    (requestor,) = owner.accepted.values()
    assert requestor.certificate == tls.fingerprint_of(peer.certificate)


@pytest.mark.dcmtk
def test_dcmtk_stores_over_tls(secured: Listener, owner: Owner, peer: Files, dcmtk: Callable[..., Any]) -> None:
    said = dcmtk("storescu", *certified(peer), "-aec", "OVERREAD", "127.0.0.1", secured.secure_port, FILE)
    assert said.returncode == 0, said.stderr
    # DCMTK writes some elements in its own way
    assert dcmread(owner.kept / "0.dcm").PixelData == dcmread(FILE).PixelData


@pytest.mark.dcmtk
def test_who_shows_no_certificate_is_refused(
    secured: Listener, owner: Owner, authority: Authority, dcmtk: Callable[..., Any]
) -> None:
    options = ["+tla", "+cf", authority.path]
    said = dcmtk("echoscu", *options, "-aec", "OVERREAD", "127.0.0.1", secured.secure_port)
    assert said.returncode != 0
    plain = dcmtk("echoscu", "-aec", "OVERREAD", "127.0.0.1", secured.secure_port)
    assert plain.returncode != 0
    assert not owner.accepted


def test_a_certificate_of_an_unknown_authority_is_refused(
    secured: Listener, owner: Owner, tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Authority(tmp_path, "elsewhere").files("stranger", trusts=authority.path)
    assert "closes the connection" in refusal(sender(secured.secure_port, stranger))
    until(lambda: "rule=tls" in caplog.text)
    assert not owner.accepted


def test_a_peer_may_vouch_for_itself(listening: Listening, node: Files, owner: Owner, tmp_path: Path) -> None:
    itself = Authority(tmp_path, "itself").files("itself", trusts=node.authorities)
    believing = Files(node.certificate, node.key, Authority(tmp_path / "x", "x").path)
    believing.authorities.write_bytes((tmp_path / "itself.crt").read_bytes())
    listener = listening(port=None, secure_port=0, identity=Identity(believing))
    sender(listener.secure_port, itself).echo()
    assert owner.accepted


@pytest.mark.parametrize(
    ("version", "ciphers"),
    [(ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"), (ssl.TLSVersion.TLSv1_2, "AES128-SHA256"), (None, "")],
    ids=["TLS 1.1", "no ephemeral keys", "TLS 1.3"],
)
def test_nothing_weaker_than_the_profile_is_agreed_on(
    secured: Listener, peer: Files, version: ssl.TLSVersion | None, ciphers: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(peer.certificate, peer.key)
    if version:
        context.set_ciphers(ciphers)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = context.maximum_version = version
    assert secured.secure_port
    with socket.create_connection(("127.0.0.1", secured.secure_port), timeout=5) as raw:
        if version:
            with pytest.raises(OSError):
                context.wrap_socket(raw)
        else:
            with context.wrap_socket(raw) as agreed:
                assert agreed.version() == "TLSv1.3"


def test_plain_and_tls_are_two_ports(listening: Listening, node: Files, peer: Files, owner: Owner) -> None:
    listener = listening(port=0, secure_port=0, identity=Identity(node))
    assert listener.port and listener.secure_port and listener.port != listener.secure_port
    sender(listener.secure_port, peer).echo()
    Sender(calling_ae_title="PLAIN", called_ae_title="OVERREAD", host="127.0.0.1", port=listener.port, timeout=5).echo()
    shown = {r.calling_ae_title: bool(r.certificate) for r in owner.accepted.values()}
    assert shown == {"CLIENT": True, "PLAIN": False}


def test_a_taken_port_is_named_and_the_other_one_is_given_back(listening: Listening, node: Files) -> None:
    other = listening()
    port = free_port()
    with pytest.raises(SettingsError, match=rf"\[tls\] port = {other.port}: cannot listen there: Address already"):
        listening(port=port, secure_port=other.port, identity=Identity(node))
    assert listening(port=port).port == port


# --- out -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure_storescp(storescp: Callable[..., Any]) -> Iterator[Callable[[Files], int]]:
    yield lambda files: storescp(*certified(files), "-aet", "OVERREAD")[0]


@pytest.mark.dcmtk
def test_results_go_to_dcmtk_over_tls(secure_storescp: Callable[[Files], int], node: Files, peer: Files) -> None:
    client = sender(secure_storescp(peer), node)
    assert [outcome.status for _, outcome in client.send([FILE])] == [0x0000]
    client.close()


@pytest.mark.dcmtk
def test_a_peer_that_does_not_know_us_says_nothing_and_we_say_what_to_look_at(
    secure_storescp: Callable[[Files], int], node: Files, authority: Authority, tmp_path: Path
) -> None:
    stranger = authority.files("strict", trusts=Authority(tmp_path, "elsewhere").path)
    assert "its certificate allowed there?" in refusal(sender(secure_storescp(stranger), node))


def test_a_certificate_of_another_name_is_refused_unless_it_is_pinned(
    listening: Listening, authority: Authority, peer: Files
) -> None:
    named = authority.files("named", host="pacs.example.org")
    listener = listening(port=None, secure_port=0, identity=Identity(named))
    said = refusal(sender(listener.secure_port, peer))
    assert "IP address mismatch" in said and "or its fingerprint in this peer's settings" in said
    sender(listener.secure_port, peer, fingerprint=tls.fingerprint_of(named.certificate)).echo()


def test_a_pinned_peer_with_another_certificate_gets_nothing(
    secured: Listener, owner: Owner, node: Files, peer: Files
) -> None:
    said = refusal(sender(secured.secure_port, peer, fingerprint=64 * "0"))
    assert tls.fingerprint_of(node.certificate) in said and "correct fingerprint" in said
    assert not owner.accepted


def test_an_unknown_authority_and_an_expired_certificate_are_named(
    listening: Listening, authority: Authority, peer: Files, tmp_path: Path
) -> None:
    strange = Authority(tmp_path, "elsewhere").files("strange", trusts=authority.path)
    listener = listening(port=None, secure_port=0, identity=Identity(strange))
    assert "to the authorities of [tls] here" in refusal(sender(listener.secure_port, peer))
    expired = authority.files("expired", days=-1)
    listener = listening(port=None, secure_port=0, identity=Identity(expired))
    assert "must be renewed there" in refusal(sender(listener.secure_port, peer))


def test_a_peer_without_tls_is_not_spoken_to_in_plain(listening: Listening, owner: Owner, peer: Files) -> None:
    said = refusal(sender(listening().port, peer))
    assert "perhaps it does not speak TLS" in said or "does not answer" in said or "closes the connection" in said
    assert not owner.accepted


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_renewed_certificate_is_taken_up_without_a_restart(
    listening: Listening, authority: Authority, peer: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old, new = authority.files("old"), authority.files("new")
    live = Files(tmp_path / "live.crt", tmp_path / "live.key", authority.path)
    shutil.copy(old.certificate, live.certificate)
    shutil.copy(old.key, live.key)
    port = listening(port=None, secure_port=0, identity=Identity(live)).secure_port
    sender(port, peer, fingerprint=tls.fingerprint_of(old.certificate)).echo()
    shutil.copy(new.certificate, live.certificate)  # now it does not fit its key
    sender(port, peer, fingerprint=tls.fingerprint_of(old.certificate)).echo()
    assert "tls.not-reloaded" in caplog.text and "KEY_VALUES_MISMATCH" in caplog.text
    shutil.copy(new.key, live.key)
    sender(port, peer, fingerprint=tls.fingerprint_of(new.certificate)).echo()
    assert f"tls.reloaded certificate={tls.fingerprint_of(new.certificate)}" in caplog.text
    live.key.unlink()
    sender(port, peer, fingerprint=tls.fingerprint_of(new.certificate)).echo()


def test_a_renewed_certificate_with_words_around_it_does_not_end_the_listener(
    listening: Listening, authority: Authority, peer: Files, tmp_path: Path
) -> None:
    old, new = authority.files("before"), authority.files("after")
    live = Files(tmp_path / "live.crt", tmp_path / "live.key", authority.path)
    for name in ("certificate", "key"):
        shutil.copy(getattr(old, name), getattr(live, name))
    port = listening(port=None, secure_port=0, identity=Identity(live)).secure_port
    live.certificate.write_bytes("# Universitätsklinikum Köln\n".encode() + new.certificate.read_bytes())
    shutil.copy(new.key, live.key)
    sender(port, peer, fingerprint=tls.fingerprint_of(live.certificate)).echo()
    live.certificate.write_bytes(b"nothing")
    sender(port, peer, fingerprint=tls.fingerprint_of(new.certificate)).echo()


def test_a_check_of_the_certificate_that_fails_ends_the_connection(
    secured: Listener, owner: Owner, peer: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "shown_by", lambda _: 1 / 0)
    with pytest.raises(AssociationFailed):
        sender(secured.secure_port, peer, fingerprint=64 * "0").echo()
    assert not owner.accepted


def test_files_that_cannot_be_used_are_named(authority: Authority, node: Files, peer: Files, tmp_path: Path) -> None:
    nothing, no_pem = tmp_path / "nothing.crt", tmp_path / "text.crt"
    no_pem.write_text("hello")
    for files, words in (
        (Files(nothing, node.key, node.authorities), f"{nothing}: No such file"),
        (Files(no_pem, node.key, node.authorities), "in PEM form, are needed"),
        (Files(node.certificate, peer.key, node.authorities), "KEY_VALUES_MISMATCH"),
        (Files(node.certificate, node.key, no_pem), f"authorities = {no_pem}"),
    ):
        with pytest.raises(SettingsError) as caught:
            Identity(files)
        assert words in str(caught.value)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(node: Files, tmp_path: Path) -> None:
    program = shutil.which("openssl")
    if not program:
        pytest.skip("openssl is not installed")
    locked = tmp_path / "locked.key"
    command = [program, "pkey", "-in", node.key, "-aes256", "-passout", "pass:secret", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(SettingsError, match="without a password"):
        Identity(Files(node.certificate, locked, node.authorities))


def test_the_days_that_a_certificate_has_left(authority: Authority, tmp_path: Path) -> None:
    files = authority.files("short", days=10)
    (days,) = tls.days_left(files.certificate)
    assert 9.9 < days < 10
    assert tls.days_left(files.certificate, now=datetime.now(UTC) + timedelta(days=11))[0] < 0
    with pytest.raises(SettingsError, match="no certificate in PEM form"):
        tls.days_left(tmp_path / "nothing")


def test_other_files_are_used_from_the_next_connection_on(
    secured: Listener, node: Files, peer: Files, authority: Authority, tmp_path: Path
) -> None:
    shown = secured._identity
    assert shown is not None
    with pytest.raises(SettingsError, match=r"none\.crt: No such file"):
        shown.use(Files(tmp_path / "none.crt", node.key, node.authorities))
    first, other = tls.fingerprint_of(node.certificate), authority.files("other")
    sender(secured.secure_port, peer, fingerprint=first).echo()
    shown.use(other)
    sender(secured.secure_port, peer, fingerprint=tls.fingerprint_of(other.certificate)).echo()
    with pytest.raises(AssociationFailed):
        sender(secured.secure_port, peer, fingerprint=first).echo()
