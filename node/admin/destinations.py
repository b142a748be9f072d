"""The peers of the settings, and what each of them takes of the results, as it said when it was last asked."""

from __future__ import annotations

from typing import Any

from pydicom.uid import UID, ExplicitVRLittleEndian

from config.settings import Peer, Settings
from node.pipeline.peers import place
from node.results.form import CLASSES, SYNTAXES
from node.storage import negotiated
from node.storage.store import Store

Answers = dict[tuple[str, str], tuple[bool, float]]
"""Whether a form was accepted, and when that was."""


def destinations(settings: Settings, store: Store) -> list[dict[str, Any]]:
    """Plain values of each peer, ready to print or to write as JSON."""
    return [_of(peer, settings, negotiated.known(store, peer.name)) for peer in settings.peer]


def _of(peer: Peer, settings: Settings, answers: Answers) -> dict[str, Any]:
    kinds = {kind: said for kind in CLASSES if (said := _taken(kind, answers))}
    return {
        "peer": peer.name,
        "place": place(peer),
        "tls": settings.uses_tls(peer),
        "may": list(peer.may),
        "takes": kinds,
    }


def _taken(kind: str, answers: Answers) -> dict[str, Any] | None:
    """Which form of a kind the peer takes: the first of those that it accepted; None where it was never asked."""
    pairs = [(str(one), str(syntax)) for one in CLASSES[kind] for syntax in SYNTAXES]
    asked = {pair: answers[pair] for pair in pairs if pair in answers}
    if not asked:
        return None
    taken = next((pair for pair, (accepted, _) in asked.items() if accepted), None)
    if taken is None:
        return {"taken": False, "at": max(at for _, at in asked.values()), "words": "no"}
    sop_class, syntax = taken
    # "Comprehensive 3D SR Storage" is enough said as "Comprehensive 3D SR"
    words = f"as {UID(sop_class).name.removesuffix(' Storage')}" if len(CLASSES[kind]) > 1 else "yes"
    if syntax != ExplicitVRLittleEndian:
        words += f" in {UID(syntax).name}"
    _, at = asked[taken]
    return {"taken": True, "at": at, "sop_class_uid": sop_class, "transfer_syntax_uid": syntax, "words": words}
