"""`overread check` of whom the node talks to: its ports, its certificates, and each peer."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

from config.settings import Peer, Settings
from config.values import is_address
from node.admin.probe import NODELAY, held_back
from node.admin.said import Said
from node.errors import AssociationFailed, SettingsError
from node.network import echo, tls
from node.pipeline.peers import echo as answered_in
from node.pipeline.peers import identity, target_of
from node.storage import roles

ECHO_SECONDS = 10
SOON_DAYS = 30
"""A certificate that ends within so long is warned about."""


def ports(settings: Settings) -> Iterator[Said]:
    rules, secure = settings.listener, settings.tls
    if secure is None or secure.plain:
        yield _port(settings, "listener", "port", rules.port)
    if secure:
        yield _port(settings, "tls", "tls_port", secure.port)


def _port(settings: Settings, section: str, key: str, port: int) -> Said:
    bind = settings.listener.bind
    where = f"{bind}:{port}"
    said = roles.status(settings.node.data_dir)["receive"]
    if said["running"] and said.get(key, port) == port:
        return Said("listener", "ok", f"{where} is ours, the receive role is {said.get('state')}")
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            text = f"{where} cannot be opened: {error.strerror}; change {section}.port or listener.bind"
            return Said("listener", "fail", text)
    return Said("listener", "ok", f"{where} is free; AE title {settings.node.ae_title}")


def certificates(settings: Settings) -> Iterator[Said]:
    """How long the files of [tls] last, and who may read the key."""
    if not settings.tls:
        if not ipaddress.ip_address(settings.listener.bind).is_loopback:
            yield Said("tls", "warn", "there is no [tls]: images and names cross the network in plain")
        return
    try:
        identity(settings)
        for key in ("certificate", "authorities"):
            yield _lasts(key, getattr(settings.tls, key))
    except SettingsError as error:
        yield Said("tls", "fail", str(error))
        return
    loose = settings.tls.key.stat().st_mode & 0o077
    if loose:
        yield Said("tls", "warn", f"{settings.tls.key} can be read by others: chmod 600 {settings.tls.key}")


def _lasts(key: str, path: Path) -> Said:
    all_days = tls.days_left(path)
    days = all_days[0] if key == "certificate" else min(all_days)
    if days < 0:
        one_of = "" if max(all_days) < 0 or key == "certificate" else "one of "
        text = f"{one_of}{key} {path} expired {-days:.0f} days ago: put a new one in its place"
        return Said("tls", "warn" if one_of else "fail", text)
    text = f"{key} {path} is valid for {days:.0f} more days"
    if days < SOON_DAYS:
        return Said("tls", "warn", f"{text}: put a new one in its place, it is taken up without a restart")
    print_ = f", fingerprint {tls.fingerprint_of(path)}" if key == "certificate" else ""
    return Said("tls", "ok", text + print_)


def peers(settings: Settings) -> Iterator[Said]:
    """Each peer: what it may do, whether it answers, and whether it can be told from the others."""
    if not settings.peer:
        yield Said("peers", "warn", "there is no [[peer]]: only this machine may associate, and nothing can be sent")
    for peer in settings.peer:
        if {"receive", "query"} & set(peer.may):
            yield answers(settings, peer)
        else:
            yield _sends(settings, peer)
        if "receive" in peer.may:
            yield from reports(peer)
    yield from _ambiguous(settings)


def answers(settings: Settings, peer: Peer) -> Said:
    """Whether a peer answers; of one made with DCMTK also whether it keeps others waiting."""
    try:
        seconds, waits = _asked(settings, peer)
    except (AssociationFailed, SettingsError) as error:
        return Said("peer", "fail", f"{peer.name}: {error}")
    answered = f"{peer.name} answered in {1000 * seconds:.0f} ms"
    if (peer.user or peer.token_file) and not settings.uses_tls(peer):
        return Said("peer", "warn", f"{answered}; the secret crosses the network in plain: use https")
    return Said("peer", "warn" if waits else "ok", f"{answered}{waits}")


def _asked(settings: Settings, peer: Peer) -> tuple[float, str]:
    """Seconds until the answer, and what it costs others that the peer uses Nagle's algorithm."""
    timeout = min(settings.deliver.timeout_seconds, ECHO_SECONDS)
    if peer.url:
        return answered_in(peer, settings, timeout=timeout), ""
    pulse = echo.pulse(target_of(peer, settings, timeout=timeout))
    return pulse.at_once, f"; {held_back(pulse)}: {NODELAY}" if pulse.held_back else ""


def reports(peer: Peer) -> Iterator[Said]:
    """Whether a peer's reports on storage commitment can be told to be its own."""
    if peer.proof in ("auto", "commitment") and peer.host and not peer.networks and not is_address(peer.host):
        text = "its host is a name, so its reports that it keeps results are not taken: add networks = "
        yield Said("peer", "warn", f'{peer.name}: {text}["its address"]')


def _sends(settings: Settings, peer: Peer) -> Said:
    where = ", ".join(peer.networks) or peer.host
    secure = " with TLS" if settings.uses_tls(peer) else ""
    return Said("peer", "ok", f'{peer.name} may send as "{peer.ae_title}" from {where}{secure}; it is not asked')


def _ambiguous(settings: Settings) -> Iterator[Said]:
    """Peers that cannot be told apart when they send: the first of them counts, and so do its rules."""
    sending = [peer for peer in settings.peer if "send" in peer.may]
    for one, other in combinations(sending, 2):
        if one.ae_title == other.ae_title and _overlap(one, other) and one.fingerprint == other.fingerprint:
            text = f'{one.name} and {other.name} both send as "{one.ae_title}" from the same network'
            change = f"all counts as {one.name}'s; give each an AE title or networks of its own"
            yield Said("peers", "warn", f"{text}: {change}")
    for peer in settings.peer:
        yield from _behind_a_balancer(peer, settings)
        if peer.ae_title == settings.node.ae_title:
            text = f'{peer.name} has this node\'s own AE title "{peer.ae_title}": give one of them another'
            yield Said("peers", "warn", text)


def _behind_a_balancer(peer: Peer, settings: Settings) -> Iterator[Said]:
    """Whether a peer is expected to come from where every connection must begin with a PROXY header."""
    balancers = settings.listener.proxy_from
    if "send" in peer.may and _meet(peer.networks or [peer.host], balancers):
        text = f"{peer.name} may send from an address that listener.proxy_from names: {', '.join(balancers)}"
        change = "only what a balancer brings is taken from there; give the addresses that stand in its header"
        yield Said("peers", "warn", f"{text}: {change}")


def _overlap(one: Peer, other: Peer) -> bool:
    return _meet(one.networks or [one.host], other.networks or [other.host])


def _meet(ones: Iterable[str], others: Iterable[str]) -> bool:
    first, second = ([ipaddress.ip_network(n) for n in networks] for networks in (ones, others))
    return any(a.version == b.version and a.overlaps(b) for a in first for b in second)
