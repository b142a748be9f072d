"""Recover: after a crash of the listener, or after the database was lost, files that were kept become rows."""

from __future__ import annotations

import logging
from pathlib import Path

from node.domain import Gone, Origin, Pulled
from node.pipeline.identify import Unidentified, identify
from node.pipeline.receive import keep
from node.storage import associations, instances, studies
from node.storage.shelf import Away
from node.storage.spool import COHORT, Spool
from node.storage.store import Store

log = logging.getLogger(__name__)


def recover(store: Store, spool: Spool, *, own_device_uid: str, now: float) -> int:
    """After a crash: sweep what was half received, and remember files that were kept but have no row yet.

    What another host is just receiving is that host's: its file may be there a moment before its row.

    Returns:
        The number of files adopted.
    """
    spool.sweep_tmp(now, older_than=0, pattern="incoming-*")
    lost = studies.end_all_associations(store, now=now)
    have = instances.paths(store)
    adopted = 0
    strays = []
    for path in spool.objects():
        gone = have.get(spool.relative(path))
        if gone is Gone.PURGED:
            spool.shelf.remove(path)
        if gone is None:
            strays.append((spool.shelf.time_of(path), path))
    for at, path in sorted(strays):
        origin = spool.origin_of(path) or _forgotten(path, at)
        if store.database.shared and associations.open_elsewhere(store, origin.id):
            continue
        associations.adopt(store, origin, now=now)
        try:
            received = identify(spool.shelf.at_hand(path))
            keep(store, spool, received, origin, own_device_uid=own_device_uid, now=received.received_at)
        except Away:
            raise
        except (Unidentified, OSError) as error:
            log.error("spool.orphan-unreadable file=%s error=%s", path.name, type(error).__name__)
            continue
        adopted += 1
    if adopted or lost:
        log.warning("spool.recovered adopted=%d open_associations=%d", adopted, lost)
    return adopted


def _forgotten(path: Path, at: float) -> Origin:
    """Who sent a file whose association's own file is lost: its name still says that nothing of it may be delivered."""
    association = path.name.split(".")[-2]
    pulled = Pulled(0, route="(forgotten)", mode="shadow") if association.startswith(COHORT) else None
    return Origin(association, "", "", "", "", at, pulled)
