"""Rows to records: the only way out of the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from node.domain import (
    Choice,
    Delivery,
    DeliveryState,
    Gone,
    Instance,
    InstanceState,
    Job,
    JobState,
    Origin,
    Priority,
    Result,
    Study,
    StudyState,
)
from node.storage.store import Store


def to_instance(store: Store, row: Row[Any]) -> Instance:
    return Instance(
        id=row.id,
        study_id=row.study_id,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        series_instance_uid=row.series_instance_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        modality=row.modality,
        digest=row.digest,
        size=row.size,
        path=store.spool_root / row.path,
        state=InstanceState(row.state),
        receipts=row.receipts,
        differs=tuple(row.differs),
        association=row.association,
        received_at=row.received_at,
        gone=Gone(row.gone),
        gone_at=row.gone_at,
    )


def to_study(row: Row[Any]) -> Study:
    return Study(
        id=row.id,
        study_instance_uid=row.study_instance_uid,
        log_id=row.log_id,
        patient_id=row.patient_id,
        accession_number=row.accession_number,
        state=StudyState(row.state),
        reason=row.reason,
        revision=row.revision,
        settled_by=row.settled_by,
        peer=row.peer,
        first_received_at=row.first_received_at,
        last_received_at=row.last_received_at,
        settled_at=row.settled_at,
    )


def to_job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        study_id=row.study_id,
        revision=row.revision,
        route=row.route,
        bundle=row.bundle,
        state=JobState(row.state),
        attempts=row.attempts,
        crashes=row.crashes,
        fence=row.fence,
        due_at=row.due_at,
        reason=row.reason,
        input_digest=row.input_digest,
        created_at=row.created_at,
        finished_at=row.finished_at,
        priority=Priority(row.priority),
        series_instance_uid=row.series_instance_uid,
        choice=_to_choice(row.choice) if row.choice else None,
        ran_with=row.ran_with,
        seconds=row.seconds,
    )


def _to_choice(values: dict[str, Any]) -> Choice:
    frames = {uid: tuple(numbers) for uid, numbers in values["frames"].items()}
    return Choice(**(values | {"frames": frames}))


def to_result(store: Store, row: Row[Any]) -> Result:
    """A row of result joined with its job's study_id, revision and route."""
    return Result(
        id=row.id,
        job_id=row.job_id,
        study_id=row.study_id,
        revision=row.revision,
        route=row.route,
        kind=row.kind,
        ordinal=row.ordinal,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        series_instance_uid=row.series_instance_uid,
        path=store.spool_root / row.path,
        digest=row.digest,
        created_at=row.created_at,
        purged=row.purged,
        quarantine=row.quarantine,
        withdrawn_at=row.withdrawn_at,
    )


def to_delivery(store: Store, row: Row[Any]) -> Delivery:
    """A row of delivery joined with its job's study_id and what is sent: a form of the result, or the result."""
    return Delivery(
        id=row.id,
        result_id=row.result_id,
        study_id=row.study_id,
        peer=row.peer,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        fence=row.fence,
        due_at=row.due_at,
        status=row.status,
        reason=row.reason,
        created_at=row.created_at,
        sent_at=row.sent_at,
        failing_since=row.failing_since,
        refusals=row.refusals,
        kind=row.kind,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        path=store.spool_root / row.path,
        form_id=row.form_id,
        transfer_syntax_uid=row.transfer_syntax_uid or "",
        proof=row.proof,
        proof_due_at=row.proof_due_at,
        proven_at=row.proven_at,
        transaction_uid=row.transaction_uid,
        asks=row.asks,
        resends=row.resends,
    )


def to_origin(row: Row[Any]) -> Origin:
    return Origin(
        id=row.id,
        calling_ae_title=row.calling_ae_title,
        called_ae_title=row.called_ae_title,
        address=row.address,
        peer=row.peer,
        started_at=row.started_at,
    )
