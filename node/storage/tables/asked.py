"""The tables of what peers are asked: studies, counts, echoes, and which objects they take."""

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

from node.storage.tables.columns import ID, UID, key, metadata, ref

pull = Table(
    "pull",
    metadata,
    key(),
    Column("peer", String(64), nullable=False),
    Column("wanted", JSON, nullable=False),
    Column("rules", JSON, nullable=False),
    Column("missing", JSON(none_as_null=True)),
    Column("asked", Integer),
    Column("route", String(64), nullable=False, default=""),
    Column("mode", String(16), nullable=False, default=""),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
)

# Apart from the row that is read and written for each study: a hundred thousand names are megabytes
pull_wanted = Table(
    "pull_wanted",
    metadata,
    Column("pull_id", ID, ForeignKey("pull.id"), primary_key=True),
    Column("wanted", JSON, nullable=False),
)

pull_study = Table(
    "pull_study",
    metadata,
    key(),
    ref("pull_id", "pull.id"),
    Column("study_instance_uid", UID, nullable=False),
    Column("expected", Integer),
    Column("taken", Integer, nullable=False, default=0),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False),
    Column("moved_at", Float),
    Column("size", BigInteger, nullable=False, default=0),
    Column("seconds", Float, nullable=False, default=0.0),
    Column("ended_at", Float),
    Column("reason", Text, nullable=False, default=""),
    UniqueConstraint("pull_id", "study_instance_uid"),
)
Index("pull_study_by_state", pull_study.c.pull_id, pull_study.c.state, pull_study.c.due_at)
Index("pull_study_by_uid", pull_study.c.study_instance_uid, pull_study.c.moved_at)

pulled = Table(
    "pulled",
    metadata,
    Column("study_id", ID, ForeignKey("study.id"), primary_key=True),
    Column("pull", Integer, primary_key=True),
    Column("route", String(64), nullable=False, default=""),
    Column("mode", String(16), nullable=False, default=""),
    Column("sent_at", Float),
)
Index("pulled_by_pull", pulled.c.pull)

expected = Table(
    "expected",
    metadata,
    Column("study_id", ID, ForeignKey("study.id"), primary_key=True),
    Column("instances", Integer),
    Column("since", Float),
    Column("asked_at", Float),
    Column("due_at", Float, nullable=False),
    Column("reason", Text, nullable=False, default=""),
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

negotiated = Table(
    "negotiated",
    metadata,
    Column("peer", String(64), primary_key=True),
    Column("sop_class_uid", UID, primary_key=True),
    Column("transfer_syntax_uid", UID, primary_key=True),
    Column("accepted", Boolean, nullable=False),
    Column("at", Float, nullable=False),
)
