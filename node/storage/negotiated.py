"""Rows of what each peer said to the SOP classes and transfer syntaxes that were proposed to it, and when.

It is shown to people and orders what is proposed; it never stands in for asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import and_, delete, insert, select

from node.domain import Pair
from node.storage import schema
from node.storage.store import Store

N = schema.negotiated


@dataclass(frozen=True)
class Answer:
    accepted: bool
    at: float


def remember(store: Store, peer: str, answers: Mapping[Pair, bool], *, now: float) -> None:
    """The newest answer to each pair counts."""
    with store.write() as connection:
        for (sop_class_uid, transfer_syntax_uid), accepted in answers.items():
            same = and_(N.c.peer == peer, N.c.sop_class_uid == sop_class_uid)
            connection.execute(delete(N).where(same, N.c.transfer_syntax_uid == transfer_syntax_uid))
            key = {"peer": peer, "sop_class_uid": sop_class_uid, "transfer_syntax_uid": transfer_syntax_uid}
            connection.execute(insert(N).values(**key, accepted=accepted, at=now))


def of_peer(store: Store, peer: str) -> dict[Pair, Answer]:
    with store.read() as connection:
        rows = connection.execute(select(N).where(N.c.peer == peer))
        return {(r.sop_class_uid, r.transfer_syntax_uid): Answer(r.accepted, r.at) for r in rows}
