"""The listener of a node as its settings have it, with the receiver that answers its questions."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from config.values import within
from node.network.guard import Limits, Places
from node.network.listener import SECURE_PORT, Listener
from node.network.tls import Identity
from node.pipeline.ourselves import is_this_machine
from node.pipeline.receive import Receiver, associates


def listener_of(receiver: Receiver, folder: Path, shown: Identity | None) -> Listener:
    """Not yet started; `folder` is where instances are received, `shown` the certificate of [tls]."""
    settings = receiver.settings
    rules = settings.listener
    return Listener(
        ae_title=settings.node.ae_title,
        bind=rules.bind,
        port=None if settings.tls and not settings.tls.plain else rules.port,
        secure_port=settings.tls.port if settings.tls else SECURE_PORT,
        identity=shown,
        folder=folder,
        callbacks=receiver.callbacks(),
        max_associations=rules.max_associations,
        network_timeout=rules.network_timeout_seconds,
        instance_limit=rules.instance_limit_mb * 1024**2,
        prefer_uncompressed=lambda title: prefers_uncompressed(title, receiver.settings),
        limits=Limits(pdu_seconds=rules.pdu_seconds, association_bytes=rules.association_limit_mb * 1024**2),
        # connections that are only just asking count too; a half of them is for those who are configured
        places=Places(
            total=4 * rules.max_associations,
            per_host=2 * rules.max_associations,
            reserved=2 * rules.max_associations,
            known=lambda address: is_peer(address, receiver.settings),
            relays=lambda address: is_balancer(address, receiver.settings),
        ),
        relays=lambda address: is_balancer(address, receiver.settings),
    )


def is_peer(address: str, settings: Settings) -> bool:
    """Whether a peer that may associate comes from this address, whoever it will say it is."""
    if not settings.peer:
        return is_this_machine(address)
    return any(p.admits(address) for p in settings.peer if associates(p))


def is_balancer(address: str, settings: Settings) -> bool:
    """Whether connections from this address are brought by a balancer, which says for whom each one is."""
    return within(address, settings.listener.proxy_from)


def prefers_uncompressed(calling_ae_title: str, settings: Settings) -> bool:
    return any(p.ae_title == calling_ae_title and p.prefer == "uncompressed" for p in settings.peer)
