"""Adopt: after the database was lost, finished jobs become rows again from their notes, and nothing is computed twice.

Done before files without rows are remembered: a study must not be routed as if nobody had ever looked at it.
"""

from __future__ import annotations

import logging

from config.settings import Settings
from node.edge import careful
from node.pipeline import forms
from node.storage import adoption
from node.storage.store import Store

log = logging.getLogger(__name__)


def adopt(store: Store, *, settings: Settings, now: float) -> int:
    """Adopt every note whose job has no row. One that cannot be read costs only that its job is done again.

    Returns:
        The number of jobs adopted.
    """
    provable = {peer.name for peer in settings.peer if "receive" in peer.may and peer.proof != "none"}
    adopted = 0
    for path in adoption.missing(store):
        try:
            adoption.adopt(store, path, provable=provable, now=now)
            adopted += 1
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("note.not-adopted file=%s error=%s", path.name, type(error).__name__)
    told = careful(lambda: forms.adopt(store, store.spool)) or 0
    if adopted or told:
        log.warning("spool.adopted jobs=%d forms=%d", adopted, told)
    return adopted
