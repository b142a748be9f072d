"""The tables. Dialect-neutral; times are seconds since the epoch, UTC; states are the words of `node.domain`."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from node.storage.tables.asked import expected as expected
from node.storage.tables.asked import negotiated as negotiated
from node.storage.tables.asked import peer_echo as peer_echo
from node.storage.tables.asked import pull as pull
from node.storage.tables.asked import pull_study as pull_study
from node.storage.tables.asked import pull_wanted as pull_wanted
from node.storage.tables.asked import pulled as pulled
from node.storage.tables.columns import ID as _ID
from node.storage.tables.columns import UID as _UID
from node.storage.tables.columns import key as _key
from node.storage.tables.columns import metadata as metadata
from node.storage.tables.columns import ref as _ref
from node.storage.tables.hosts import duty as duty
from node.storage.tables.hosts import host as host
from node.storage.tables.people import account as account
from node.storage.tables.people import api_token as api_token
from node.storage.tables.people import login_failure as login_failure
from node.storage.tables.people import web_session as web_session
from node.storage.tables.watched import alarm as alarm
from node.storage.tables.watched import alarm_notice as alarm_notice
from node.storage.tables.watched import audit_message as audit_message
from node.storage.tables.watched import canary as canary
from node.storage.tables.watched import rejection as rejection
from node.storage.tables.watched import tally as tally

REVISION = "0004"
"""The last of the changes in `migrations/versions`: what these tables are."""
FLOOR = "0004"
"""The oldest revision whose programs can work with these tables: all changes since then only added to them."""


meta = Table("meta", metadata, Column("name", String(32), primary_key=True), Column("value", Text, nullable=False))

association = Table(
    "association",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("peer", String(64), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("how", String(16), nullable=False, default=""),
    Column("audited", Boolean, nullable=False, default=False),
    Column("host", String(32), nullable=False, default=""),
)
Index("association_by_audit", association.c.audited, association.c.ended_at)

study = Table(
    "study",
    metadata,
    _key(),
    Column("study_instance_uid", _UID, nullable=False, unique=True),
    Column("log_id", String(16), nullable=False, unique=True),
    Column("patient_id", Text, nullable=False),
    Column("patient_key", Text, nullable=False),
    Column("accession_number", String(64), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("revision", Integer, nullable=False, default=0),
    Column("settled_digest", String(64), nullable=False, default=""),
    Column("settled_by", Text, nullable=False, default=""),
    Column("peer", String(64), nullable=False, default=""),
    Column("first_received_at", Float, nullable=False),
    Column("last_received_at", Float, nullable=False),
    Column("settled_at", Float),
)
Index("study_by_state", study.c.state, study.c.last_received_at)
Index("study_by_time", study.c.last_received_at)
Index("study_by_peer", study.c.peer, study.c.state)

instance = Table(
    "instance",
    metadata,
    _key(),
    _ref("study_id", "study.id"),
    Column("association", String(32), nullable=False),
    Column("sop_instance_uid", _UID, nullable=False),
    Column("sop_class_uid", _UID, nullable=False),
    Column("series_instance_uid", _UID, nullable=False),
    Column("transfer_syntax_uid", _UID, nullable=False),
    Column("modality", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("path", Text, nullable=False),
    Column("identification", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("receipts", Integer, nullable=False, default=1),
    Column("differs", JSON, nullable=False),
    Column("gone", String(8), nullable=False, default=""),
    Column("gone_at", Float),
    Column("received_at", Float, nullable=False),
    UniqueConstraint("sop_instance_uid", "digest"),
)
Index("instance_by_study", instance.c.study_id, instance.c.state)
Index("instance_by_state", instance.c.state)
Index("instance_by_association", instance.c.association)

route_reason = Table(
    "route_reason",
    metadata,
    _key(),
    _ref("study_id", "study.id"),
    Column("revision", Integer, nullable=False),
    Column("route", String(64), nullable=False),
    Column("matched", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    UniqueConstraint("study_id", "revision", "route"),
)

job = Table(
    "job",
    metadata,
    _key(),
    _ref("study_id", "study.id"),
    Column("revision", Integer, nullable=False),
    Column("route", String(64), nullable=False),
    Column("bundle", String(128), nullable=False),
    Column("series_instance_uid", _UID, nullable=False, default=""),
    Column("choice", JSON),
    Column("priority", Integer, nullable=False, default=2),
    Column("input_digest", String(64), nullable=False),
    Column("ran_with", JSON),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("crashes", Integer, nullable=False, default=0),
    Column("fence", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False),
    Column("lease_until", Float),
    Column("worker", String(64), nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
    Column("retryable", Boolean, nullable=False, default=True),
    Column("deliver_to", JSON, nullable=False, default=dict),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("seconds", Float),
    UniqueConstraint("study_id", "revision", "route", "series_instance_uid"),
)
# In the order in which jobs are claimed; what is counted is in it too, so that counting reads no rows
Index("job_by_state", job.c.state, job.c.crashes, job.c.priority, job.c.due_at, job.c.id, job.c.retryable)
Index("job_by_end", job.c.finished_at, job.c.state)

job_instance = Table(
    "job_instance",
    metadata,
    Column("job_id", _ID, ForeignKey("job.id"), primary_key=True),
    Column("instance_id", _ID, ForeignKey("instance.id"), primary_key=True),
)

finding = Table(
    "finding",
    metadata,
    _key(),
    _ref("job_id", "job.id"),
    _ref("instance_id", "instance.id"),
    Column("status", String(16), nullable=False),
    Column("code", String(32), nullable=False, default=""),
    Column("reason", Text, nullable=False),
    Column("label", String(64), nullable=False),
    Column("score", Float),
    Column("presence", String(16), nullable=False),
    Column("frame", Integer, nullable=False, default=1),
)
Index("finding_by_job", finding.c.job_id)

result = Table(
    "result",
    metadata,
    _key(),
    _ref("job_id", "job.id"),
    Column("kind", String(16), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("sop_instance_uid", _UID, nullable=False, unique=True),
    Column("sop_class_uid", _UID, nullable=False),
    Column("series_instance_uid", _UID, nullable=False),
    Column("path", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("purged", Boolean, nullable=False, default=False),
    Column("quarantine", Text, nullable=False, default=""),
    Column("withdrawn_at", Float),
    UniqueConstraint("job_id", "kind", "ordinal"),
)

form = Table(
    "form",
    metadata,
    _key(),
    _ref("result_id", "result.id"),
    Column("sop_class_uid", _UID, nullable=False),
    Column("transfer_syntax_uid", _UID, nullable=False),
    Column("sop_instance_uid", _UID, nullable=False, index=True),
    Column("path", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    UniqueConstraint("result_id", "sop_class_uid", "transfer_syntax_uid"),
)

delivery = Table(
    "delivery",
    metadata,
    _key(),
    _ref("result_id", "result.id"),
    Column("peer", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("fence", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False),
    Column("lease_until", Float),
    Column("status", Integer),
    Column("reason", Text, nullable=False, default=""),
    Column("retryable", Boolean, nullable=False, default=True),
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("failing_since", Float),
    Column("refusals", Integer, nullable=False, default=0),
    Column("priority", Integer, nullable=False, default=2),
    Column("form_id", _ID, ForeignKey("form.id")),
    Column("proof", Text, nullable=False, default=""),
    Column("proof_due_at", Float),
    Column("proven_at", Float),
    Column("transaction_uid", _UID, nullable=False, default="", index=True),
    Column("asks", Integer, nullable=False, default=0),
    Column("resends", Integer, nullable=False, default=0),
    Column("host", String(32), nullable=False, default=""),
    UniqueConstraint("result_id", "peer"),
)
# In the order in which deliveries are claimed, with what is counted
Index(
    "delivery_by_state",
    delivery.c.state,
    delivery.c.peer,
    delivery.c.priority,
    delivery.c.due_at,
    delivery.c.id,
    delivery.c.retryable,
    delivery.c.failing_since,
)
Index("delivery_by_proof", delivery.c.state, delivery.c.peer, delivery.c.proof_due_at)


commitment = Table(
    "commitment",
    metadata,
    _key(),
    Column("transaction_uid", _UID, nullable=False),
    Column("association", String(32), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("peer", String(64), nullable=False),
    Column("items", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("fence", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False),
    Column("lease_until", Float),
    Column("reason", Text, nullable=False, default=""),
    Column("asked_at", Float, nullable=False),
    Column("reported_at", Float),
    UniqueConstraint("calling_ae_title", "transaction_uid"),
)
Index("commitment_by_state", commitment.c.state, commitment.c.due_at)

event = Table(
    "event",
    metadata,
    _key(),
    _ref("study_id", "study.id"),
    Column("at", Float, nullable=False),
    Column("verb", String(16), nullable=False),
    Column("text", Text, nullable=False),
)
Index("event_by_study", event.c.study_id)
