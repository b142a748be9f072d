"""The peers of the settings: which routes name them, and what each takes of the results and answered when it was last
asked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydicom.uid import UID, ExplicitVRLittleEndian

from config.settings import Peer, Settings
from node.pipeline.peers import place
from node.results.form import CLASSES, SYNTAXES
from node.storage import echoes, negotiated
from node.storage.echoes import Echo
from node.storage.store import Store

Answers = dict[tuple[str, str], tuple[bool, float]]
"""Whether a form was accepted, and when that was."""


def destinations(settings: Settings, store: Store) -> list[dict[str, Any]]:
    """Plain values of each peer, ready to print or to write as JSON."""
    asked = echoes.latest(store)
    return [_of(p, settings, negotiated.known(store, p.name), asked.get(p.name)) for p in settings.peer]


def _of(peer: Peer, settings: Settings, answers: Answers, echo: Echo | None) -> dict[str, Any]:
    kinds = {kind: said for kind in CLASSES if (said := _taken(kind, answers))}
    return {
        "peer": peer.name,
        "ae_title": peer.ae_title,
        "place": place(peer),
        "tls": settings.uses_tls(peer),
        "may": list(peer.may),
        "takes": kinds,
        "echo": asdict(echo) if echo else None,
        "deliver_to": [r.name for r in settings.route if peer.name in r.deliver_to],
        "from_peers": [r.name for r in settings.route if peer.name in r.from_peers],
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
