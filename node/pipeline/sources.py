"""The settings' peers, as somebody who is asked for studies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from config.settings import Peer, Settings
from node.errors import PullError
from node.network.retrieve import Retriever
from node.network.source import Source
from node.pipeline.peers import target_of


def source_to(peer: Peer, settings: Settings, *, folder: Path, moving: Callable[[str], None]) -> Source:
    """A peer to be asked, by the protocol that its settings name; files are received into `folder`.

    Raises:
        SettingsError: a file of [tls] cannot be used.
    """
    if peer.url:
        raise PullError(f"{peer.name}: studies are brought by DIMSE only; this peer has a url")
    limit = settings.listener.instance_limit_mb * 1024**2
    target = target_of(peer, settings)
    return Retriever(target, how=peer.retrieve, folder=folder, instance_limit=limit, moving=moving)
