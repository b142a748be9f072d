"""The tables of what watches the node, in the same `metadata`. `schema` gives their names to everybody else."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, String, Table, Text

from node.storage.tables.columns import UID, key, metadata

# One row for each time that something was wrong; `over_at` ends it. Told are those with `raised_at`
alarm = Table(
    "alarm",
    metadata,
    key(),
    Column("key", String(128), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("remedy", Text, nullable=False, default=""),
    Column("since", Float, nullable=False),
    Column("first_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("raised_at", Float),
    Column("told_at", Float),
    Column("over_at", Float),
)
Index("alarm_by_end", alarm.c.over_at, alarm.c.key)

# What is still to be told of alarms, by which way
alarm_notice = Table(
    "alarm_notice",
    metadata,
    key(),
    Column("channel", String(16), nullable=False),
    Column("body", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False),
    Column("reason", Text, nullable=False, default=""),
)

canary = Table(
    "canary",
    metadata,
    key(),
    Column("route", String(64), nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("at", Float, nullable=False),
    Column("ended_at", Float),
    Column("ok", Boolean),
    Column("reason", Text, nullable=False, default=""),
    Column("seconds", JSON, nullable=False, default=dict),
    Column("outcome", JSON),
    Column("likeness", String(64), nullable=False, default=""),
    Column("removed", Boolean, nullable=False, default=False),
)
Index("canary_by_study", canary.c.removed, canary.c.study_instance_uid)
Index("canary_by_end", canary.c.ended_at)
Index("canary_by_likeness", canary.c.likeness, canary.c.ok)

# Associations that were refused, until the audit trail has them
rejection = Table(
    "rejection",
    metadata,
    key(),
    Column("at", Float, nullable=False),
    Column("rule", String(64), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("times", Integer, nullable=False),
)
Index("rejection_by_time", rejection.c.at)

# Audit messages on their way; the row goes when the message is where it is to be
audit_message = Table(
    "audit_message",
    metadata,
    key(),
    Column("sink", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("text", Text, nullable=False),
)
Index("audit_message_by_sink", audit_message.c.sink, audit_message.c.id)

# What happened so far, counted once: from `event` and the rows that its lines are about
tally = Table(
    "tally",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("labels", String(255), primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("total", Float, nullable=False),
)
