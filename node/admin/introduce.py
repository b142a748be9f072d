"""What the other side must be told of this node before a peer works, in words."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

from config.settings import Peer, Settings
from config.values import is_address

SOMEWHERE = "this machine's address"


def introduction(peer: Peer, settings: Settings) -> Iterator[str]:
    """One line for each thing that an administrator of the peer has to do."""
    if peer.url:
        where = own_address(peer, settings)
        if "receive" in peer.may:
            yield f"it must take what this node sends by STOW-RS, from {where}"
        if "query" in peer.may:
            by = "by the REST API of Orthanc" if peer.api == "orthanc" else "by QIDO-RS and WADO-RS"
            yield f"it must answer searches and give studies {by}, to {where}"
        return
    title, address, port = settings.node.ae_title, own_address(peer, settings), own_port(peer, settings)
    tls = " with TLS" if settings.uses_tls(peer) else ""
    yield f"this node is AE title {title}, host {address}, port {port}{tls}"
    if "send" in peer.may:
        yield f"it must send its studies there, and call itself {peer.ae_title}"
    if "receive" in peer.may:
        yield f"it must take Structured Reports and Secondary Captures from {title}"
    if "query" in peer.may:
        yield f"it must answer searches (C-FIND) of {title}"
    if {"send", "receive"} & set(peer.may):
        yield f'where it is an Orthanc: "DicomModalities": {{"overread": ["{title}", "{address}", {port}]}}'
    bind = ipaddress.ip_address(settings.listener.bind)
    if bind.is_loopback and not (is_address(peer.host) and ipaddress.ip_address(peer.host).is_loopback):
        yield f'here, listener.bind = "{bind}" lets nobody in from other machines: "0.0.0.0" does'


def own_port(peer: Peer, settings: Settings) -> int:
    return settings.tls.port if settings.tls and settings.uses_tls(peer) else settings.listener.port


def own_address(peer: Peer, settings: Settings) -> str:
    """The address of this machine on the way to a peer; nothing is sent and no name is looked up."""
    bind = ipaddress.ip_address(settings.listener.bind)
    if not bind.is_unspecified and not bind.is_loopback:
        return str(bind)
    there = peer.host if is_address(peer.host) else next((n.partition("/")[0] for n in peer.networks), "")
    if there:
        family = socket.AF_INET6 if ":" in there else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((there, 104))
            return str(probe.getsockname()[0])
    return SOMEWHERE
