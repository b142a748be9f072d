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

from node.storage.columns import ID as _ID
from node.storage.columns import UID as _UID
from node.storage.columns import key as _key
from node.storage.columns import metadata as metadata
from node.storage.columns import ref as _ref
from node.storage.watched import alarm as alarm
from node.storage.watched import alarm_notice as alarm_notice
from node.storage.watched import audit_message as audit_message
from node.storage.watched import canary as canary
from node.storage.watched import rejection as rejection
from node.storage.watched import tally as tally

REVISION = "0002"
"""The last of the changes in `migrations/versions`: what these tables are."""


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

negotiated = Table(
    "negotiated",
    metadata,
    Column("peer", String(64), primary_key=True),
    Column("sop_class_uid", _UID, primary_key=True),
    Column("transfer_syntax_uid", _UID, primary_key=True),
    Column("accepted", Boolean, nullable=False),
    Column("at", Float, nullable=False),
)

peer_echo = Table(
    "peer_echo",
    metadata,
    Column("peer", String(64), primary_key=True),
    Column("at", Float, nullable=False),
    Column("answered", Boolean, nullable=False),
    Column("seconds", Float),
    Column("error", Text, nullable=False, default=""),
)

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

account = Table(
    "account",
    metadata,
    _key(),
    Column("name", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("password", Text, nullable=False),
    Column("disabled", Boolean, nullable=False, default=False),
    Column("created_at", Float, nullable=False),
    Column("last_login_at", Float),
)

web_session = Table(
    "web_session",
    metadata,
    _key(),
    _ref("account_id", "account.id"),
    Column("token_digest", String(64), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)

login_failure = Table(
    "login_failure",
    metadata,
    _key(),
    Column("account_key", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("at", Float, nullable=False),
)
Index("login_failure_by_account", login_failure.c.account_key, login_failure.c.at)
Index("login_failure_by_address", login_failure.c.address, login_failure.c.at)

# With what a program uses an account: one for each, and a new one takes the place of the former
api_token = Table(
    "api_token",
    metadata,
    Column("account_id", _ID, ForeignKey("account.id"), primary_key=True),
    Column("token_digest", String(64), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
)

pull = Table(
    "pull",
    metadata,
    _key(),
    Column("peer", String(64), nullable=False),
    Column("wanted", JSON, nullable=False),
    Column("rules", JSON, nullable=False),
    Column("missing", JSON(none_as_null=True)),
    Column("route", String(64), nullable=False, default=""),
    Column("mode", String(16), nullable=False, default=""),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
)

pull_study = Table(
    "pull_study",
    metadata,
    _key(),
    _ref("pull_id", "pull.id"),
    Column("study_instance_uid", _UID, nullable=False),
    Column("expected", Integer),
    Column("taken", Integer, nullable=False, default=0),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False),
    Column("moved_at", Float),
    Column("reason", Text, nullable=False, default=""),
    UniqueConstraint("pull_id", "study_instance_uid"),
)
Index("pull_study_by_state", pull_study.c.pull_id, pull_study.c.state, pull_study.c.due_at)
Index("pull_study_by_uid", pull_study.c.study_instance_uid, pull_study.c.moved_at)

pulled = Table(
    "pulled",
    metadata,
    Column("study_id", _ID, ForeignKey("study.id"), primary_key=True),
    Column("pull", Integer, primary_key=True),
    Column("route", String(64), nullable=False, default=""),
    Column("mode", String(16), nullable=False, default=""),
    Column("sent_at", Float),
)

expected = Table(
    "expected",
    metadata,
    Column("study_id", _ID, ForeignKey("study.id"), primary_key=True),
    Column("instances", Integer),
    Column("since", Float),
    Column("asked_at", Float),
    Column("due_at", Float, nullable=False),
    Column("reason", Text, nullable=False, default=""),
)
