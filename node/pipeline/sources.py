"""The settings' peers, as somebody who is asked for studies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from config.settings import Peer, Settings
from node.network.rest import RestSource
from node.network.retrieve import Retriever, nothing_to_do
from node.network.source import Source
from node.network.taking import Held, Room, nothing
from node.network.wado import WadoSource
from node.pipeline.peers import reader_of, target_of


def source_to(
    peer: Peer,
    settings: Settings,
    *,
    folder: Path,
    moving: Callable[[str], None] = nothing_to_do,
    held: Held = nothing,
) -> Source:
    """A peer that may "query", to be asked by what its settings name: DIMSE, DICOMweb, or the REST of Orthanc.

    Files are made in `folder`. `moving` is told of each C-MOVE; what is `held` is not fetched again over the web, where
    instances can be asked for one by one.

    Raises:
        SettingsError: a file of [tls] or of the peer cannot be used.
    """
    limit = settings.listener.instance_limit_mb * 1024**2
    if peer.url:
        web, room = reader_of(peer, settings), Room(folder, limit, held)
        return RestSource(web, room) if peer.api == "orthanc" else WadoSource(web, room)
    target = target_of(peer, settings)
    return Retriever(target, how=peer.retrieve, folder=folder, instance_limit=limit, moving=moving)
