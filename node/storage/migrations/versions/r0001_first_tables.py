"""The first tables. Written out, not taken from `schema`, which moves on."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    String,
    Text,
    UniqueConstraint,
)

revision = "0001"
down_revision = None

ID = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "association",
        Column("id", String(32), primary_key=True),
        Column("calling_ae_title", String(16), nullable=False),
        Column("called_ae_title", String(16), nullable=False),
        Column("address", String(64), nullable=False),
        Column("peer", String(64), nullable=False),
        Column("started_at", Float, nullable=False),
        Column("ended_at", Float),
        Column("how", String(16), nullable=False),
    )
    op.create_table(
        "commitment",
        Column("id", ID, primary_key=True),
        Column("transaction_uid", String(64), nullable=False),
        Column("association", String(32), nullable=False),
        Column("calling_ae_title", String(16), nullable=False),
        Column("peer", String(64), nullable=False),
        Column("items", JSON, nullable=False),
        Column("state", String(16), nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("fence", Integer, nullable=False),
        Column("due_at", Float, nullable=False),
        Column("lease_until", Float),
        Column("reason", Text, nullable=False),
        Column("asked_at", Float, nullable=False),
        Column("reported_at", Float),
        UniqueConstraint("calling_ae_title", "transaction_uid"),
    )
    op.create_index("commitment_by_state", "commitment", ["state", "due_at"])
    op.create_table(
        "meta",
        Column("name", String(32), primary_key=True),
        Column("value", Text, nullable=False),
    )
    op.create_table(
        "negotiated",
        Column("peer", String(64), primary_key=True),
        Column("sop_class_uid", String(64), primary_key=True),
        Column("transfer_syntax_uid", String(64), primary_key=True),
        Column("accepted", Boolean, nullable=False),
        Column("at", Float, nullable=False),
    )
    op.create_table(
        "study",
        Column("id", ID, primary_key=True),
        Column("study_instance_uid", String(64), nullable=False, unique=True),
        Column("log_id", String(16), nullable=False, unique=True),
        Column("patient_id", Text, nullable=False),
        Column("patient_key", Text, nullable=False),
        Column("accession_number", String(64), nullable=False),
        Column("state", String(16), nullable=False),
        Column("reason", Text, nullable=False),
        Column("revision", Integer, nullable=False),
        Column("settled_digest", String(64), nullable=False),
        Column("settled_by", Text, nullable=False),
        Column("peer", String(64), nullable=False),
        Column("first_received_at", Float, nullable=False),
        Column("last_received_at", Float, nullable=False),
        Column("settled_at", Float),
    )
    op.create_index("ix_study_accession_number", "study", ["accession_number"])
    op.create_index("study_by_state", "study", ["state", "last_received_at"])
    op.create_index("study_by_time", "study", ["last_received_at"])
    op.create_table(
        "event",
        Column("id", ID, primary_key=True),
        Column("study_id", ID, ForeignKey("study.id"), nullable=False),
        Column("at", Float, nullable=False),
        Column("verb", String(16), nullable=False),
        Column("text", Text, nullable=False),
    )
    op.create_index("event_by_study", "event", ["study_id"])
    op.create_table(
        "instance",
        Column("id", ID, primary_key=True),
        Column("study_id", ID, ForeignKey("study.id"), nullable=False),
        Column("association", String(32), nullable=False),
        Column("sop_instance_uid", String(64), nullable=False),
        Column("sop_class_uid", String(64), nullable=False),
        Column("series_instance_uid", String(64), nullable=False),
        Column("transfer_syntax_uid", String(64), nullable=False),
        Column("modality", String(16), nullable=False),
        Column("digest", String(64), nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("path", Text, nullable=False),
        Column("identification", JSON, nullable=False),
        Column("state", String(16), nullable=False),
        Column("receipts", Integer, nullable=False),
        Column("differs", JSON, nullable=False),
        Column("gone", String(8), nullable=False),
        Column("gone_at", Float),
        Column("received_at", Float, nullable=False),
        UniqueConstraint("sop_instance_uid", "digest"),
    )
    op.create_index("instance_by_state", "instance", ["state"])
    op.create_index("instance_by_study", "instance", ["study_id", "state"])
    op.create_table(
        "job",
        Column("id", ID, primary_key=True),
        Column("study_id", ID, ForeignKey("study.id"), nullable=False),
        Column("revision", Integer, nullable=False),
        Column("route", String(64), nullable=False),
        Column("bundle", String(128), nullable=False),
        Column("series_instance_uid", String(64), nullable=False),
        Column("choice", JSON),
        Column("priority", Integer, nullable=False),
        Column("input_digest", String(64), nullable=False),
        Column("ran_with", JSON),
        Column("state", String(16), nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("crashes", Integer, nullable=False),
        Column("fence", Integer, nullable=False),
        Column("due_at", Float, nullable=False),
        Column("lease_until", Float),
        Column("worker", String(64), nullable=False),
        Column("reason", Text, nullable=False),
        Column("retryable", Boolean, nullable=False),
        Column("deliver_to", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("finished_at", Float),
        UniqueConstraint("study_id", "revision", "route", "series_instance_uid"),
    )
    op.create_index("job_by_end", "job", ["finished_at", "state"])
    op.create_index("job_by_state", "job", ["state", "crashes", "priority", "due_at", "id", "retryable"])
    op.create_table(
        "route_reason",
        Column("id", ID, primary_key=True),
        Column("study_id", ID, ForeignKey("study.id"), nullable=False),
        Column("revision", Integer, nullable=False),
        Column("route", String(64), nullable=False),
        Column("matched", Integer, nullable=False),
        Column("reason", Text, nullable=False),
        UniqueConstraint("study_id", "revision", "route"),
    )
    op.create_table(
        "finding",
        Column("id", ID, primary_key=True),
        Column("job_id", ID, ForeignKey("job.id"), nullable=False),
        Column("instance_id", ID, ForeignKey("instance.id"), nullable=False),
        Column("status", String(16), nullable=False),
        Column("reason", Text, nullable=False),
        Column("label", String(64), nullable=False),
        Column("score", Float),
        Column("presence", String(16), nullable=False),
        Column("frame", Integer, nullable=False),
    )
    op.create_index("finding_by_job", "finding", ["job_id"])
    op.create_table(
        "job_instance",
        Column("job_id", ID, ForeignKey("job.id"), primary_key=True),
        Column("instance_id", ID, ForeignKey("instance.id"), primary_key=True),
    )
    op.create_table(
        "result",
        Column("id", ID, primary_key=True),
        Column("job_id", ID, ForeignKey("job.id"), nullable=False),
        Column("kind", String(16), nullable=False),
        Column("ordinal", Integer, nullable=False),
        Column("sop_instance_uid", String(64), nullable=False, unique=True),
        Column("sop_class_uid", String(64), nullable=False),
        Column("series_instance_uid", String(64), nullable=False),
        Column("path", Text, nullable=False),
        Column("digest", String(64), nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("purged", Boolean, nullable=False),
        Column("quarantine", Text, nullable=False),
        Column("withdrawn_at", Float),
        UniqueConstraint("job_id", "kind", "ordinal"),
    )
    op.create_table(
        "form",
        Column("id", ID, primary_key=True),
        Column("result_id", ID, ForeignKey("result.id"), nullable=False),
        Column("sop_class_uid", String(64), nullable=False),
        Column("transfer_syntax_uid", String(64), nullable=False),
        Column("sop_instance_uid", String(64), nullable=False),
        Column("path", Text, nullable=False),
        Column("digest", String(64), nullable=False),
        Column("size", BigInteger, nullable=False),
        UniqueConstraint("result_id", "sop_class_uid", "transfer_syntax_uid"),
    )
    op.create_index("ix_form_sop_instance_uid", "form", ["sop_instance_uid"])
    op.create_table(
        "delivery",
        Column("id", ID, primary_key=True),
        Column("result_id", ID, ForeignKey("result.id"), nullable=False),
        Column("peer", String(64), nullable=False),
        Column("state", String(16), nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("fence", Integer, nullable=False),
        Column("due_at", Float, nullable=False),
        Column("lease_until", Float),
        Column("status", Integer),
        Column("reason", Text, nullable=False),
        Column("retryable", Boolean, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("sent_at", Float),
        Column("failing_since", Float),
        Column("refusals", Integer, nullable=False),
        Column("priority", Integer, nullable=False),
        Column("form_id", ID, ForeignKey("form.id")),
        Column("proof", Text, nullable=False),
        Column("proof_due_at", Float),
        Column("proven_at", Float),
        Column("transaction_uid", String(64), nullable=False),
        Column("asks", Integer, nullable=False),
        Column("resends", Integer, nullable=False),
        UniqueConstraint("result_id", "peer"),
    )
    op.create_index("delivery_by_proof", "delivery", ["state", "peer", "proof_due_at"])
    op.create_index(
        "delivery_by_state", "delivery", ["state", "peer", "priority", "due_at", "id", "retryable", "failing_since"]
    )
    op.create_index("ix_delivery_transaction_uid", "delivery", ["transaction_uid"])


def downgrade() -> None:
    raise NotImplementedError("these are the first tables: there is nothing to go back to")
