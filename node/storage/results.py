"""Rows of results, by the name under which somebody knows them."""

from __future__ import annotations

from sqlalchemy import or_, select

from node.domain import Job, Result
from node.errors import NoSuchResult
from node.storage import schema
from node.storage.rows import to_job, to_result
from node.storage.store import Store

F = schema.form
J = schema.job
R = schema.result


def find(store: Store, sop_instance_uid: str) -> tuple[Result, Job]:
    """The result with this SOP Instance UID, its own or that of a form in which it was sent, and its job.

    Raises:
        NoSuchResult: nothing that this node made has it.
    """
    forms = select(F.c.result_id).where(F.c.sop_instance_uid == sop_instance_uid)
    query = select(R, J.c.study_id, J.c.revision, J.c.route).join(J, J.c.id == R.c.job_id)
    with store.read() as connection:
        row = connection.execute(query.where(or_(R.c.sop_instance_uid == sop_instance_uid, R.c.id.in_(forms)))).first()
        if row is None:
            raise NoSuchResult(f"no result of this node has the SOP Instance UID {sop_instance_uid}")
        job = connection.execute(select(J).where(J.c.id == row.job_id)).one()
        return to_result(store, row), to_job(job)


def is_reported(store: Store, sop_instance_uid: str) -> bool:
    """Whether a job has ended with this result, so that its file is spoken of."""
    with store.read() as connection:
        return connection.execute(select(R.c.id).where(R.c.sop_instance_uid == sop_instance_uid)).first() is not None
