"""Notes become rows again, where the database was lost or is older than they are. `notes` says how they are written.

What a note knows to be over stays over. A delivery that it does not know the end of is asked for, or sent again: the
same bytes under the same name do no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from node.domain import DeliveryState, Gone, InstanceState, StudyState
from node.storage import events, notes, pulled, schema
from node.storage.store import Store

D = schema.delivery
F = schema.finding
I = schema.instance  # noqa: E741
J = schema.job
JI = schema.job_instance
R = schema.result
S = schema.study
W = schema.route_reason

UNKNOWN = "the database was rebuilt: whether the peer has it is not known"
"""What `delivery.proof` says until the peer does."""


def missing(store: Store) -> list[Path]:
    """The notes whose job has no row, earlier revisions first."""
    with store.read() as connection:
        known = notes.expected(store, connection)
    there = (note.path for note in store.spool.shelf.files(store.spool.notes))
    found = (path for path in there if path.suffix == ".json" and path not in known)
    return sorted(found, key=lambda path: (_revision(path), path.name))


def _revision(path: Path) -> int:
    number = path.name.split(".")[-2]
    return int(number) if number.isdecimal() else 0


def adopt(store: Store, path: Path, *, provable: Collection[str], now: float) -> None:
    """Make the rows of one job from its note, in one transaction.

    Its study is RECEIVING afterwards, so that all routes are asked again, unless no image is left to ask them about.

    Args:
        path: the note.
        provable: names of the peers that can be asked for what they have.

    Raises:
        OSError, ValueError, KeyError, TypeError: the note cannot be read, or contradicts what is remembered.
    """
    note = notes.read(store, path)
    with store.write() as connection:
        try:
            _adopt(store, connection, note, provable, now)
        except IntegrityError:
            raise ValueError("the note contradicts what is remembered") from None


def _adopt(
    store: Store, connection: Connection, note: Mapping[str, Any], provable: Collection[str], now: float
) -> None:
    study_id = _study(store, connection, note)
    ids = {row["id"]: _instance(store, connection, study_id, row) for row in note["instances"]}
    job_id = _inserted(connection, J, note["job"], study_id=study_id)
    for instance_id in ids.values():
        connection.execute(insert(JI).values(job_id=job_id, instance_id=instance_id))
    for row in note["findings"]:
        _inserted(connection, F, row | {"instance_id": ids[row["instance_id"]]}, job_id=job_id)
    for row in note["results"]:
        result_id = _inserted(connection, R, row, job_id=job_id)
        for delivery in row["deliveries"]:
            _inserted(connection, D, _delivery(delivery, provable, now), result_id=result_id)
    for row in note["reasons"]:
        same = (W.c.study_id == study_id, W.c.revision == row["revision"], W.c.route == row["route"])
        connection.execute(delete(W).where(*same))
        _inserted(connection, W, row, study_id=study_id)
    _decide_anew(connection, study_id)
    text = f"{note['job']['route']}: {len(note['results'])} results of revision {note['job']['revision']} adopted"
    events.add(connection, study_id, "report", f"{text}: the database was rebuilt", now=now)


def _study(store: Store, connection: Connection, note: Mapping[str, Any]) -> int:
    """The study's row, made if it is missing; a later revision knows better who the patient is, and who asked."""
    said = note["study"]
    uid = said["study_instance_uid"]
    found = connection.execute(select(S).where(S.c.study_instance_uid == uid)).first()
    if found is None:
        state = {"state": StudyState.RECEIVING, "log_id": store.log_id(uid)}
        study_id = _inserted(connection, S, said, **state)
        pulled.adopt(connection, study_id, note.get("pulled", ()))
        return study_id
    if said["revision"] >= found.revision:
        pulled.adopt(connection, found.id, note.get("pulled", ()))
        later = {"last_received_at": max(said["last_received_at"], found.last_received_at)}
        connection.execute(update(S).where(S.c.id == found.id).values(**_known(S, said) | later))
    return int(found.id)


def _instance(store: Store, connection: Connection, study_id: int, said: Mapping[str, Any]) -> int:
    """The instance's row, made if it is missing. A file that is not there was purged, if the note says so."""
    same = (I.c.sop_instance_uid == said["sop_instance_uid"], I.c.digest == said["digest"])
    found = connection.execute(select(I.c.id).where(*same)).scalar()
    if found is not None:
        return int(found)
    gone = said["gone"] or ("" if store.spool.shelf.holds(store.spool_root / said["path"]) else Gone.LOST)
    return _inserted(connection, I, said, study_id=study_id, gone=gone)


def _delivery(said: Mapping[str, Any], provable: Collection[str], now: float) -> dict[str, Any]:
    values = dict(said)
    if said["state"] in (DeliveryState.QUEUED, DeliveryState.LEASED):
        asked = said["peer"] in provable
        state = DeliveryState.SENT if asked else DeliveryState.QUEUED
        values |= {"state": state, "due_at": now, "created_at": now, "proof": UNKNOWN}
        # An answer that is known is about an earlier try: `deliveries.send_unanswered` looks for none
        values |= {"status": None, "transaction_uid": "", "asks": 0}
        # It may have been sent, nobody knows when; a peer that is asked gets its time from now on
        values |= {"sent_at": now, "proof_due_at": now if asked else None}
    return values


def _decide_anew(connection: Connection, study_id: int) -> None:
    here = (I.c.study_id == study_id, I.c.state == InstanceState.CURRENT, I.c.gone == Gone.KEPT)
    left = connection.execute(select(I.c.id).where(*here).limit(1)).first()
    state = StudyState.RECEIVING if left else StudyState.ROUTED
    connection.execute(
        update(S).where(S.c.id == study_id, S.c.state != StudyState.HELD).values(state=state, settled_digest="")
    )


def _inserted(connection: Connection, table: Table, said: Mapping[str, Any], **more: Any) -> int:
    values = {name: value for name, value in _known(table, said).items() if name != "id"} | more
    return int(connection.execute(insert(table).values(**values).returning(table.c.id)).scalar_one())


def _known(table: Table, said: Mapping[str, Any]) -> dict[str, Any]:
    """What the table has a column for: a note may be older or newer than this program."""
    return {name: value for name, value in said.items() if name in table.c}
