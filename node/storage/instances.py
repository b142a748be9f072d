"""Rows of received instances: the one transaction behind every C-STORE success, and what settles contradictions.

What an instance means for its study is decided here, because it must be decided in the same transaction that
remembers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, case, insert, or_, select, update

from node.domain import Gone, Instance, InstanceState, Origin, Received, Study, StudyState
from node.storage import events, pulled, schema
from node.storage.prepared import Prepared
from node.storage.rows import to_instance, to_study
from node.storage.store import Store

I = schema.instance  # noqa: E741
S = schema.study
IDENTIFIES_PATIENT = ("PatientID", "IssuerOfPatientID")


def _later(now: Any) -> ColumnElement[float]:
    """Never back: an adopted file is older than what came since."""
    return case((S.c.last_received_at > now, S.c.last_received_at), else_=now)


SAME_UID = select(I).where(I.c.sop_instance_uid == bindparam("uid")).order_by(I.c.id)
OURS = or_(
    *(select(t.c.id).where(t.c.sop_instance_uid == bindparam("uid")).exists() for t in (schema.result, schema.form))
)
CAME = select(I.c.id).where(I.c.sop_instance_uid == bindparam("uid")).exists()
STUDY = Prepared(
    select(S, OURS.label("ours"), CAME.label("came"), pulled.IN_FORCE.label("pulled")).where(
        S.c.study_instance_uid == bindparam("study_uid")
    )
)
INSERT = Prepared(insert(I), [column.key for column in I.c if column.key not in ("id", "gone_at")])
TOUCHED = update(S).where(S.c.id == bindparam("study_id")).values(last_received_at=_later(bindparam("at"))).returning(S)
TOUCH = Prepared(TOUCHED)
REOPEN = TOUCHED.values(state=StudyState.RECEIVING, reason="")
PRESENT = (InstanceState.CURRENT, InstanceState.COMPARING, InstanceState.CONFLICT, InstanceState.RECEIPT)


@dataclass(frozen=True)
class Remembered:
    """What became of one received instance."""

    study: Study
    state: InstanceState
    path: Path
    """The file that the row speaks of; not the one just kept when the same bytes were there already."""
    expected: bool = False
    """One more of a study that is RECEIVING: all that it changes is to put off when the study is complete."""


def known(store: Store, sop_instance_uid: str, digest: str) -> Instance | None:
    """The row of these very bytes, if they came before."""
    with store.read() as connection:
        row = _same(connection.execute(SAME_UID, {"uid": sop_instance_uid}), digest)
    return to_instance(store, row) if row else None


def _same(rows: Iterable[Row[Any]], digest: str) -> Row[Any] | None:
    return next((row for row in rows if row.digest == digest), None)


def count_receipt(store: Store, instance: Instance, origin: Origin, *, now: float) -> bool:
    """The same bytes came again and the file is still there: only the receipt is counted. False: it has just gone.

    Unless a correction had replaced them: whoever sends them again takes the correction back, and a person decides.
    Or a pull had brought them: whoever sends them makes the study one like every other.
    """
    with store.write() as connection:
        state = connection.execute(
            update(I)
            .where(I.c.id == instance.id, I.c.gone == Gone.KEPT)
            .values(receipts=I.c.receipts + 1)
            .returning(I.c.state)
        ).scalar()
        if state is None:
            return False
        connection.execute(update(S).where(S.c.id == instance.study_id).values(last_received_at=_later(now)))
        if origin.pulled is None:
            pulled.send(store, connection, instance.study_id, origin, now=now)
        if state == InstanceState.SUPERSEDED:
            differs = ["an instance that a correction had replaced came again"]
            connection.execute(
                update(I).where(I.c.id == instance.id).values(state=InstanceState.CONFLICT, differs=differs)
            )
            _hold(connection, instance.study_id, differs[0], "receive", now)
    return True


def remember(store: Store, received: Received, origin: Origin, *, own_device_uid: str, now: float) -> Remembered | None:
    """Write the row of an instance whose file is kept, and say what it does to its study. None: these very bytes have
    a row, and nothing was written.

    A new image reopens the study. The same SOP Instance UID with other bytes is compared later, or holds the study at
    once when the identification differs; so does a study UID that comes with another patient. Objects without an
    image and our own results are receipts and change nothing.
    """

    def write(connection: Connection) -> Remembered | None:
        wanted = {"study_uid": received.study_instance_uid, "uid": received.sop_instance_uid}
        study = STUDY.first(connection, wanted)
        before = connection.execute(SAME_UID, wanted).all() if study is None or study.came else []
        if _same(before, received.digest):
            return None
        expected = study is not None and study.state == StudyState.RECEIVING
        if study is None:
            _begin_study(store, connection, received, origin, now)
            study = STUDY.first(connection, wanted)
        state, differs = _meaning(connection, received, study, before, own_device_uid)
        INSERT.run(connection, _values(store, received, origin, study.id, state, differs))
        if state is InstanceState.CONFLICT:
            _hold(connection, study.id, f"An instance contradicts what is known: {'; '.join(differs)}", "receive", now)
        if study.pulled and origin.pulled is None:
            store.database.keep_study(connection, study.id)  # notes of its jobs are written
            pulled.send(store, connection, study.id, origin, now=now)
        row = _touched(connection, study, state, now)
        return Remembered(to_study(row), state, received.path, expected and state is InstanceState.CURRENT)

    # Whoever brings another study waits neither for this one nor for the workers
    return store.write_together(write, received.study_instance_uid, received.sop_instance_uid)


def restore(store: Store, received: Received, origin: Origin, *, now: float) -> Remembered:
    """The bytes have a row. Where their file was gone the new one takes its place, in the state that the row has.

    A study that nothing was made of, for want of this file or of a route, is decided anew; so is one that a pull had
    brought, where somebody sends it.
    """
    same, named = SAME_UID.where(I.c.digest == received.digest), {"uid": received.sop_instance_uid}
    with store.read() as connection:
        path = connection.execute(same, named).one().path
    # Not while all others wait: a bucket may take long to answer. What is let go meanwhile is gone in its row
    missing = not store.spool.shelf.holds(store.spool_root / path)
    with store.write() as connection:
        row = connection.execute(same, named).one()
        values: dict[str, Any] = {"receipts": row.receipts + 1}
        if row.gone or (missing and row.path == path):
            values |= {"path": store.spool.relative(received.path), "gone": Gone.KEPT, "gone_at": None}
        connection.execute(update(I).where(I.c.id == row.id).values(**values))
        if origin.pulled is None:
            pulled.send(store, connection, row.study_id, origin, now=now)
        study = connection.execute(
            update(S).where(S.c.id == row.study_id).values(last_received_at=_later(now)).returning(S)
        ).one()
        undecided = study.state == StudyState.UNROUTED or row.gone == Gone.LOST
        if row.gone and row.state == InstanceState.CURRENT and undecided and study.state != StudyState.HELD:
            reopened = {"state": StudyState.RECEIVING, "settled_digest": "", "reason": ""}
            study = connection.execute(update(S).where(S.c.id == row.study_id).values(**reopened).returning(S)).one()
            events.add(connection, row.study_id, "receive", "reopened: a file that was gone came again", now=now)
        return Remembered(to_study(study), InstanceState(row.state), store.spool_root / values.get("path", row.path))


def _begin_study(store: Store, connection: Connection, received: Received, origin: Origin, now: float) -> None:
    study_id = connection.execute(
        insert(S)
        .values(
            study_instance_uid=received.study_instance_uid,
            log_id=store.log_id(received.study_instance_uid),
            patient_id=received.patient_id,
            patient_key=patient_key(received.identification),
            accession_number=received.accession_number,
            state=StudyState.RECEIVING,
            peer=origin.peer,
            first_received_at=now,
            last_received_at=now,
        )
        .returning(S.c.id)
    ).scalar_one()
    came = f"first instance, from {origin.peer or origin.address}"
    if origin.pulled:
        pulled.begin(connection, study_id, origin.pulled)
        came += f", by {origin.pulled.sentence}"
    events.add(connection, study_id, "receive", came, now=now)


def _meaning(
    connection: Connection, received: Received, study: Row[Any], before: Sequence[Row[Any]], own_device_uid: str
) -> tuple[InstanceState, list[str]]:
    """The state of a new instance, and the attributes in which it contradicts what is known; `study` is of STUDY."""
    if study.ours or (own_device_uid and received.device_uid == own_device_uid):
        return InstanceState.RECEIPT, []
    others = next((row for row in before if row.state in PRESENT), None)
    if others is not None:
        differs = differing(others.identification, received.identification)
        if differs:
            return InstanceState.CONFLICT, differs
        return (InstanceState.COMPARING if received.is_image else InstanceState.DUPLICATE), []
    if study.patient_key != patient_key(received.identification):
        theirs = connection.execute(
            select(I.c.identification).where(I.c.study_id == study.id, I.c.state.in_(PRESENT)).order_by(I.c.id)
        ).scalar()
        differs = differing(theirs or {}, received.identification, only=IDENTIFIES_PATIENT)
        return InstanceState.CONFLICT, differs or ["another patient under the same Study Instance UID"]
    return (InstanceState.CURRENT if received.is_image else InstanceState.RECEIPT), []


def differing(old: Mapping[str, str], new: Mapping[str, str], *, only: Sequence[str] = ()) -> list[str]:
    """The identifying attributes that two data sets do not share, each with both values."""
    keys = only or sorted({*old, *new})
    return [f"{k}: {old.get(k, '')!r} was, {new.get(k, '')!r} came" for k in keys if old.get(k, "") != new.get(k, "")]


def _hold(connection: Connection, study_id: int, reason: str, verb: str, now: float) -> None:
    connection.execute(update(S).where(S.c.id == study_id).values(state=StudyState.HELD, reason=reason))
    events.add(connection, study_id, verb, f"held: {reason}", now=now)


def _touched(connection: Connection, study: Row[Any], state: InstanceState, now: float) -> Row[Any]:
    """The study's row after what a new instance does to it; `study` is as it was before."""
    opens = state in (InstanceState.CURRENT, InstanceState.COMPARING) and study.state != StudyState.HELD
    if opens and study.state != StudyState.RECEIVING:
        events.add(connection, study.id, "receive", "reopened by another instance", now=now)
    this = {"study_id": study.id, "at": now}
    if opens and (study.state != StudyState.RECEIVING or study.reason):
        return connection.execute(REOPEN, this).one()
    row: Row[Any] = TOUCH.first(connection, this)
    return row


def of_study(store: Store, study_id: int, *states: InstanceState) -> list[Instance]:
    """The instances of a study, in the order of their arrival."""
    query = select(I).where(I.c.study_id == study_id).order_by(I.c.id)
    if states:
        query = query.where(I.c.state.in_(states))
    with store.read() as connection:
        return [to_instance(store, row) for row in connection.execute(query)]


def twins(store: Store, instance: Instance) -> list[Instance]:
    """The other rows of the same SOP Instance UID that count, oldest first."""
    query = (
        select(I)
        .where(I.c.sop_instance_uid == instance.sop_instance_uid, I.c.id != instance.id)
        .where(I.c.state.in_((InstanceState.CURRENT, InstanceState.RECEIPT)))
        .order_by(I.c.id)
    )
    with store.read() as connection:
        return [to_instance(store, row) for row in connection.execute(query)]


def compared(store: Store, instance: Instance, differs: Sequence[str], *, now: float) -> None:
    """Record what the comparison of two encodings of one UID found: a duplicate, or a contradiction that holds."""
    state = InstanceState.CONFLICT if differs else InstanceState.DUPLICATE
    with store.write() as connection:
        changed = connection.execute(
            update(I)
            .where(I.c.id == instance.id, I.c.state == InstanceState.COMPARING)
            .values(state=state, differs=list(differs))
        ).rowcount
        if changed and differs:
            reason = f"The same SOP Instance UID came again and differs: {'; '.join(differs)}"
            _hold(connection, instance.study_id, reason, "settle", now)


def lose(store: Store, instance: Instance) -> None:
    """The file is gone, and nobody purged it."""
    with store.write() as connection:
        connection.execute(update(I).where(I.c.id == instance.id, I.c.gone == Gone.KEPT).values(gone=Gone.LOST))


def paths(store: Store) -> dict[str, Gone]:
    """The files that rows speak of, relative to the spool."""
    with store.read() as connection:
        return {row.path: Gone(row.gone) for row in connection.execute(select(I.c.path, I.c.gone))}


def identification(store: Store, instance: Instance) -> dict[str, str]:
    """What the instance said of patient and study: all that is left of it when its file was purged."""
    with store.read() as connection:
        query = select(I.c.identification).where(I.c.id == instance.id)
        return dict(connection.execute(query).scalar_one())


def patient_key(identification: Mapping[str, str]) -> str:
    """Who the patient is: the ID with its issuer, or name and birth date where there is no ID."""
    keys = IDENTIFIES_PATIENT if identification.get("PatientID") else ("PatientName", "PatientBirthDate")
    return "\x1f".join(identification.get(k, "") for k in keys)


def _values(
    store: Store,
    received: Received,
    origin: Origin,
    study_id: int,
    state: InstanceState,
    differs: list[str],
) -> dict[str, Any]:
    return {
        "study_id": study_id,
        "association": origin.id,
        "sop_instance_uid": received.sop_instance_uid,
        "sop_class_uid": received.sop_class_uid,
        "series_instance_uid": received.series_instance_uid,
        "transfer_syntax_uid": received.transfer_syntax_uid,
        "modality": received.modality,
        "digest": received.digest,
        "size": received.size,
        "path": store.spool.relative(received.path),
        "identification": dict(received.identification),
        "state": state,
        "receipts": 1,
        "differs": differs,
        "gone": Gone.KEPT,
        "received_at": received.received_at,
    }
