"""Rows of pulls: which studies are to be brought from which peer, and how far that is.

One process works on a pull at a time, under a lock; a study that it had when it died is free again for the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, insert, or_, select, update

from node.domain import Gone, Pulled, StudyState
from node.errors import NoSuchPull
from node.storage import schema
from node.storage.pull_rows import KNOWN, to_pull, to_study
from node.storage.pull_rows import NOTHING as NOTHING
from node.storage.pull_rows import Here as Here
from node.storage.pull_rows import Pull as Pull
from node.storage.pull_rows import PullState as PullState
from node.storage.pull_rows import PullStudy as PullStudy
from node.storage.pull_rows import PullStudyState as PullStudyState
from node.storage.pull_rows import Spent as Spent
from node.storage.pulled import IN_FORCE
from node.storage.store import Store

I = schema.instance  # noqa: E741
L = schema.pull
N = schema.pull_wanted
P = schema.pulled
S = schema.study
T = schema.pull_study

MOVED_SECONDS = 3600.0
"""So long after the last sign of a C-MOVE the study counts as what was asked for while it is being brought."""
BLOCK = 500
"""Names in one query."""
ENDED_SECONDS = 60.0
"""The same once it is here, given up or waits for another try: what was on its way then may still arrive."""


def begin(
    store: Store, peer: str, wanted: Mapping[str, Any], rules: Mapping[str, Any], *, route: str, mode: str, now: float
) -> Pull:
    with store.write() as connection:
        # Numbers of pulls that only studies remember are not given again: the database may have been rebuilt
        last = [connection.execute(select(func.max(column))).scalar() or 0 for column in (L.c.id, P.c.pull)]
        values: dict[str, Any] = {"id": max(last) + 1, "state": PullState.OPEN, "created_at": now}
        values |= {"peer": peer, "wanted": {}, "rules": dict(rules), "route": route, "mode": mode, "asked": 0}
        made = connection.execute(insert(L).values(**values).returning(*KNOWN)).one()
        connection.execute(insert(N).values(pull_id=made.id, wanted=dict(wanted)))
        return to_pull(made)


def find(store: Store, number: int) -> Pull:
    """
    Raises:
        NoSuchPull: there is none of that number.
    """
    with store.read() as connection:
        row = connection.execute(select(*KNOWN).where(L.c.id == number)).first()
        if row is None:
            have = connection.execute(select(L.c.id).order_by(L.c.id.desc()).limit(10)).scalars()
            raise NoSuchPull(f"no pull #{number} (the newest: {', '.join(f'#{i}' for i in have) or 'none'})")
    return to_pull(row)


def wanted(store: Store, number: int) -> dict[str, Any]:
    """What a pull asks for, as `begin` was told."""
    with store.read() as connection:
        return dict(connection.execute(select(N.c.wanted).where(N.c.pull_id == number)).scalar_one())


def state(store: Store, number: int) -> PullState:
    with store.read() as connection:
        return PullState(connection.execute(select(L.c.state).where(L.c.id == number)).scalar_one())


def see_to(store: Store, number: int) -> None:
    """See that a pull is known, be it only by its studies: the database may have been rebuilt.

    Raises:
        NoSuchPull: nothing is known of that number.
    """
    with store.read() as connection:
        known = connection.execute(select(P.c.pull).where(P.c.pull == number).limit(1)).first()
    if known is None:
        find(store, number)


def asked_for(number: int) -> ColumnElement[bool]:
    """A condition on rows of `study`: this pull asked for it, as its own rows or the study's say. Looked up for each
    study: as lists they would be made anew for every lot that is read."""
    named = select(T.c.id).where(T.c.pull_id == number, T.c.study_instance_uid == S.c.study_instance_uid)
    brought = select(P.c.pull).where(P.c.study_id == S.c.id, P.c.pull == number)
    return or_(named.exists(), brought.exists())


def latest(store: Store, limit: int) -> list[Pull]:
    with store.read() as connection:
        return [to_pull(row) for row in connection.execute(select(*KNOWN).order_by(L.c.id.desc()).limit(limit))]


def found(
    store: Store,
    pull_id: int,
    studies: Mapping[str, int | None],
    *,
    missing: Sequence[str],
    asked: int | None = None,
    now: float,
) -> int:
    """Remember which studies are to be brought, with how many instances each has as far as the peer tells, and what
    was asked for by name and is not there. `asked`: so many questions are answered, and more are to come.

    Returns:
        How many studies are new to the pull: two questions may have the same answer.
    """
    uids = list(studies)
    new = {"pull_id": pull_id, "state": PullStudyState.QUEUED, "due_at": now}
    with store.write() as connection:
        known: set[str] = set()
        for at in range(0, len(uids), BLOCK):
            block = T.c.study_instance_uid.in_(uids[at : at + BLOCK])
            known |= set(
                connection.execute(select(T.c.study_instance_uid).where(T.c.pull_id == pull_id, block)).scalars()
            )
        rows = [new | {"study_instance_uid": uid, "expected": n} for uid, n in studies.items() if uid not in known]
        if rows:
            connection.execute(insert(T), rows)
        before = connection.execute(select(L.c.missing).where(L.c.id == pull_id)).scalar_one() or []
        values: dict[str, Any] = {"asked": asked}
        if missing or asked is None:
            values["missing"] = [*before, *missing]
        connection.execute(update(L).where(L.c.id == pull_id).values(**values))
    return len(rows)


def set_state(store: Store, pull_id: int, state: PullState, *, reason: str = "", now: float) -> None:
    with store.write() as connection:
        ended = None if state is PullState.OPEN else now
        connection.execute(update(L).where(L.c.id == pull_id).values(state=state, reason=reason, ended_at=ended))


def set_rules(store: Store, pull_id: int, rules: Mapping[str, Any]) -> None:
    with store.write() as connection:
        connection.execute(update(L).where(L.c.id == pull_id).values(rules=dict(rules)))


def resume(store: Store, pull_id: int, *, now: float) -> None:
    """Free what the process before had, and try again what was given up."""
    with store.write() as connection:
        mine = T.c.pull_id == pull_id
        free = {"state": PullStudyState.QUEUED, "due_at": now}
        connection.execute(update(T).where(mine, T.c.state == PullStudyState.LEASED).values(**free))
        connection.execute(update(T).where(mine, T.c.state == PullStudyState.DEAD).values(attempts=0, **free))
        connection.execute(
            update(T).where(mine, T.c.state == PullStudyState.QUEUED, T.c.due_at > now).values(due_at=now)
        )
        connection.execute(update(L).where(L.c.id == pull_id).values(state=PullState.OPEN, reason="", ended_at=None))


def became(store: Store, study: PullStudy) -> PullStudyState:
    """What became of a study that was claimed."""
    with store.read() as connection:
        return PullStudyState(connection.execute(select(T.c.state).where(T.c.id == study.id)).scalar_one())


def claim(store: Store, pull_id: int, *, now: float) -> PullStudy | None:
    """QUEUED -> LEASED for the next study that is due; None when none is, or the pull was stopped."""
    first = (
        select(T.c.id)
        .join(L, L.c.id == T.c.pull_id)
        .where(
            T.c.pull_id == pull_id, T.c.state == PullStudyState.QUEUED, T.c.due_at <= now, L.c.state == PullState.OPEN
        )
        .order_by(T.c.due_at, T.c.id)
        .limit(1)
    )
    with store.write() as connection:
        row = connection.execute(
            update(T)
            .where(T.c.id.in_(first), T.c.state == PullStudyState.QUEUED)
            .values(state=PullStudyState.LEASED)
            .returning(T)
        ).first()
    return to_study(row) if row else None


def next_due(store: Store, pull_id: int) -> float | None:
    """When the next study is due; None when none waits."""
    waiting = select(func.min(T.c.due_at)).where(T.c.pull_id == pull_id, T.c.state == PullStudyState.QUEUED)
    with store.read() as connection:
        return connection.execute(waiting).scalar()


def done(
    store: Store,
    study: PullStudy,
    *,
    taken: int,
    expected: int | None,
    reason: str = "",
    spent: Spent = NOTHING,
    now: float,
) -> None:
    values = {"state": PullStudyState.DONE, "taken": taken, "expected": expected, "reason": reason, "ended_at": now}
    _end(store, study, values, spent)


def fail(
    store: Store,
    study: PullStudy,
    *,
    taken: int,
    expected: int | None,
    reason: str,
    attempts: int,
    due_at: float,
    spent: Spent = NOTHING,
    now: float,
) -> bool:
    """LEASED -> QUEUED for another try, or DEAD after so many; whether it is dead."""
    dead = study.attempts + 1 >= attempts
    state = PullStudyState.DEAD if dead else PullStudyState.QUEUED
    values = {"state": state, "attempts": study.attempts + 1, "due_at": due_at, "ended_at": now if dead else None}
    _end(store, study, values | {"taken": taken, "expected": expected, "reason": reason}, spent)
    return dead


def release(store: Store, study: PullStudy, *, due_at: float, reason: str = "", spent: Spent = NOTHING) -> None:
    """LEASED -> QUEUED without counting: it was not the study's fault."""
    _end(store, study, {"state": PullStudyState.QUEUED, "due_at": due_at, "reason": reason}, spent)


def _end(store: Store, study: PullStudy, values: Mapping[str, Any], spent: Spent) -> None:
    all_tries = {"size": T.c.size + spent.size, "seconds": T.c.seconds + spent.seconds}
    with store.write() as connection:
        mine = (T.c.id == study.id, T.c.state == PullStudyState.LEASED)
        connection.execute(update(T).where(*mine).values(**values, **all_tries))


def moving(store: Store, study: PullStudy, *, now: float) -> None:
    """A peer is told to move this study, or says that it still does, or it has ended: what comes of it is asked for."""
    with store.write() as connection:
        connection.execute(update(T).where(T.c.id == study.id).values(moved_at=now))


MOVED = (
    select(*KNOWN)
    .join(T, T.c.pull_id == L.c.id)
    .where(T.c.study_instance_uid == bindparam("uid"), T.c.moved_at > bindparam("after"))
    .where(
        or_(
            T.c.state == PullStudyState.LEASED,
            # broken off: something may still be on its way. Ended well: only whoever was asked may be late
            and_(
                T.c.moved_at > bindparam("ended_after"),
                or_(T.c.state != PullStudyState.DONE, L.c.peer == bindparam("peer")),
            ),
        )
    )
    .order_by(T.c.moved_at.desc())
    .limit(1)
)


def moved(store: Store, study_instance_uid: str, peer: str, *, now: float) -> Pulled | None:
    """The pull for which the study is being moved, or was until just now, as `peer` sends it.

    While it is being moved it may come from whomever: many a PACS moves by another AE title than it is asked by.
    """
    asked = {"uid": study_instance_uid, "peer": peer, "after": now - MOVED_SECONDS, "ended_after": now - ENDED_SECONDS}
    with store.read() as connection:
        row = connection.execute(MOVED, asked).first()
    return to_pull(row).pulled if row else None


def here(store: Store, study_instance_uid: str) -> Here:
    kept = (I.c.study_id == S.c.id, I.c.gone != Gone.LOST)
    query = select(
        S.c.id,
        S.c.state,
        select(func.count(I.c.sop_instance_uid.distinct())).where(*kept).scalar_subquery().label("instances"),
        select(func.coalesce(func.sum(I.c.size), 0)).where(*kept).scalar_subquery().label("size"),
        IN_FORCE.label("is_pulled"),
    ).where(S.c.study_instance_uid == study_instance_uid)
    with store.read() as connection:
        row = connection.execute(query).first()
    return Here(row.id, StudyState(row.state), row.instances, row.size, bool(row.is_pulled)) if row else Here()


def held(store: Store, study_instance_uid: str) -> set[str]:
    """The SOP Instance UIDs of what is here of a study, as `here` counts them."""
    query = select(I.c.sop_instance_uid).join(S, S.c.id == I.c.study_id)
    with store.read() as connection:
        kept = query.where(S.c.study_instance_uid == study_instance_uid, I.c.gone != Gone.LOST)
        return set(connection.execute(kept).scalars())


def of_pull(store: Store, pull_id: int, *states: PullStudyState, limit: int | None = None) -> list[PullStudy]:
    query = select(T).where(T.c.pull_id == pull_id).order_by(T.c.id).limit(limit)
    with store.read() as connection:
        return [to_study(r) for r in connection.execute(query.where(T.c.state.in_(states)) if states else query)]


def counts(store: Store, pull_id: int) -> dict[PullStudyState, int]:
    query = select(T.c.state, func.count()).where(T.c.pull_id == pull_id).group_by(T.c.state)
    with store.read() as connection:
        found = {PullStudyState(state): n for state, n in connection.execute(query)}
    return {state: found.get(state, 0) for state in PullStudyState}
