"""Rows of results that failed their self-check: kept aside with the reasons, and never sent."""

from __future__ import annotations

from sqlalchemy import func, not_, select

from node.storage import schema
from node.storage.store import Store
from node.storage.trials import COUNTS

J = schema.job
R = schema.result
S = schema.study


def waiting(store: Store) -> int:
    """How many there are of studies' latest revisions: a new revision has results of its own, and they were checked."""
    query = (
        select(func.count())
        .select_from(R)
        .join(J, J.c.id == R.c.job_id)
        .join(S, S.c.id == J.c.study_id)
        .where(R.c.quarantine != "", not_(R.c.purged), J.c.revision == S.c.revision, COUNTS)
    )
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())
