"""Rows of the forms in which results go to their destinations. A form is made once and sent again as it was stored."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from node.domain import Delivery, DeliveryState, Form, Result
from node.storage import events, schema
from node.storage.rows import to_result
from node.storage.store import Store

D = schema.delivery
F = schema.form
J = schema.job
R = schema.result


def of_result(store: Store, result_id: int) -> list[Form]:
    with store.read() as connection:
        rows = connection.execute(select(F).where(F.c.result_id == result_id).order_by(F.c.id))
        return [_to_form(store, row) for row in rows]


def origin(store: Store, delivery: Delivery) -> Result:
    """The result that a delivery stands for, whatever form it goes in."""
    with store.read() as connection:
        query = select(R, J.c.study_id, J.c.revision, J.c.route).join(J, J.c.id == R.c.job_id)
        return to_result(store, connection.execute(query.where(R.c.id == delivery.result_id)).one())


def take(store: Store, delivery: Delivery, form: Form | None, *, words: str = "", now: float) -> bool:
    """Remember in which form a delivery goes, before it does; None is the result itself.

    Returns:
        False when the delivery's lease was lost: then it must not go.
    """
    with store.write() as connection:
        form_id = _id_of(store, connection, delivery.result_id, form) if form else None
        changed = connection.execute(
            update(D)
            .where(D.c.id == delivery.id, D.c.state == DeliveryState.LEASED, D.c.fence == delivery.fence)
            .values(form_id=form_id)
        ).rowcount
        if changed and words:
            text = f"{delivery.peer}: {delivery.kind} goes as {words}"
            events.add(connection, delivery.study_id, "deliver", text, now=now)
        return bool(changed)


def _id_of(store: Store, connection: Connection, result_id: int, form: Form) -> int:
    same = and_(F.c.result_id == result_id, F.c.sop_class_uid == form.sop_class_uid)
    query = select(F.c.id).where(same, F.c.transfer_syntax_uid == form.transfer_syntax_uid)
    found: int | None = connection.execute(query).scalar()
    if found is not None:
        return found
    values = asdict(form) | {"path": str(form.path.relative_to(store.spool_root))}
    made: int = connection.execute(insert(F).values(result_id=result_id, **values).returning(F.c.id)).scalar_one()
    return made


def adopt(store: Store, result_id: int, form: Form) -> None:
    """A form whose file was kept and whose row is lost."""
    with store.write() as connection:
        _id_of(store, connection, result_id, form)


def origins(store: Store) -> list[Result]:
    """All results whose files are kept: what forms are made from."""
    query = select(R, J.c.study_id, J.c.revision, J.c.route).join(J, J.c.id == R.c.job_id)
    with store.read() as connection:
        return [to_result(store, row) for row in connection.execute(query.where(R.c.purged.is_(False)))]


def paths(store: Store) -> set[str]:
    """The files that rows speak of, relative to the spool."""
    with store.read() as connection:
        return set(connection.execute(select(F.c.path)).scalars())


def _to_form(store: Store, row: Any) -> Form:
    return Form(
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        sop_instance_uid=row.sop_instance_uid,
        path=store.spool_root / row.path,
        digest=row.digest,
        size=row.size,
    )
