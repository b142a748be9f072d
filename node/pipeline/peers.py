"""The settings' peers, as the network's rooms want them."""

from __future__ import annotations

from config.settings import TLS, Peer, Settings
from node.network import rest
from node.network.link import Target
from node.network.sender import Sender
from node.network.stow import WebSender
from node.network.tls import Files, Identity
from node.network.webget import Reader
from node.network.weblink import Credentials


def identity(settings: Settings) -> Identity | None:
    """What this node shows and believes in TLS; None where it has none.

    Raises:
        SettingsError: naming the file of [tls] that cannot be used.
    """
    return Identity(files_of(settings.tls)) if settings.tls else None


def files_of(tls: TLS) -> Files:
    return Files(tls.certificate, tls.key, tls.authorities)


def place(peer: Peer) -> str:
    """Where a peer is, in words."""
    if peer.url:
        return peer.url
    return f"{peer.ae_title} at {peer.host}:{peer.port}" if peer.host else peer.ae_title


def sender_to(peer: Peer, settings: Settings, *, timeout: float | None = None) -> Sender | WebSender:
    """A sender to a peer that has host and port, or a url. `timeout` (seconds) replaces that of the settings.

    Raises:
        SettingsError: as `identity`, or a file of the peer that cannot be used.
    """
    if peer.url:
        return web_sender_to(peer, settings, timeout=timeout)
    return Sender(**vars(target_of(peer, settings, timeout=timeout)))


def echo(peer: Peer, settings: Settings, *, timeout: float | None = None) -> float:
    """Seconds until a peer answers: to a C-ECHO, or to a question by what its url speaks.

    Raises:
        AssociationFailed: it does not answer; the message says what to change, and on which side.
        SettingsError: as `sender_to`.
    """
    if peer.url and peer.api == "orthanc":
        return rest.echo(reader_of(peer, settings, timeout=timeout))
    return sender_to(peer, settings, timeout=timeout).echo()


def web_sender_to(peer: Peer, settings: Settings, *, timeout: float | None = None) -> WebSender:
    """The same for a peer with a url.

    Raises:
        SettingsError: a file of the peer cannot be used.
    """
    assert peer.url, "only for a peer with a url"
    return WebSender(
        peer.url,
        timeout=timeout or settings.deliver.timeout_seconds,
        credentials=_credentials(peer),
        authorities=peer.authorities,
    )


def reader_of(peer: Peer, settings: Settings, *, timeout: float | None = None) -> Reader:
    """A peer with a url, to be asked by what it speaks.

    Raises:
        SettingsError: a file of the peer cannot be used.
    """
    assert peer.url, "only for a peer with a url"
    return Reader(
        peer.url,
        what="Orthanc's REST" if peer.api == "orthanc" else "a DICOMweb service",
        timeout=timeout or settings.deliver.timeout_seconds,
        credentials=_credentials(peer),
        authorities=peer.authorities,
    )


def _credentials(peer: Peer) -> Credentials:
    return Credentials(peer.user or "", peer.password_file, peer.token_file)


def target_of(peer: Peer, settings: Settings, *, timeout: float | None = None) -> Target:
    """A peer that has host and port, to associate with.

    Raises:
        SettingsError: as `identity`.
    """
    assert peer.port is not None, "only for a peer that has a port"
    return Target(
        settings.node.ae_title,
        peer.ae_title,
        peer.host,
        peer.port,
        timeout or settings.deliver.timeout_seconds,
        identity(settings) if settings.uses_tls(peer) else None,
        peer.fingerprint or "",
    )
