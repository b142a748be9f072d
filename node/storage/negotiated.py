"""Rows of what peers took and refused when presentation contexts were negotiated with them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, insert, select

from node.domain import Pair
from node.storage import schema
from node.storage.store import Store

N = schema.negotiated


def remember(store: Store, peer: str, answers: Mapping[Pair, bool], *, now: float) -> None:
    """Keep a peer's latest answer to each proposal."""
    with store.write() as connection:
        for (sop_class, syntax), accepted in answers.items():
            same = (N.c.peer == peer, N.c.sop_class_uid == sop_class, N.c.transfer_syntax_uid == syntax)
            connection.execute(delete(N).where(*same))
            values = {"sop_class_uid": sop_class, "transfer_syntax_uid": syntax, "accepted": accepted, "at": now}
            connection.execute(insert(N).values(peer=peer, **values))


def known(store: Store, peer: str) -> dict[Pair, tuple[bool, float]]:
    """Whether a peer accepted what was proposed to it, and when that was."""
    with store.read() as connection:
        rows = connection.execute(select(N).where(N.c.peer == peer))
        return {(r.sop_class_uid, r.transfer_syntax_uid): (r.accepted, r.at) for r in rows}


def forget(store: Store, peer: str) -> None:
    """Ask a peer anew at the next opportunity: its settings may have changed."""
    with store.write() as connection:
        connection.execute(delete(N).where(N.c.peer == peer))
