"""What people need: the dashboard's accounts, pulls, alarms, canaries, the audit trail. Alembic keeps the number."""

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
    true,
)

revision = "0002"
down_revision = "0001"

ID = BigInteger().with_variant(Integer, "sqlite")
TABLES = (
    "api_token",
    "web_session",
    "pulled",
    "pull_study",
    "expected",
    "tally",
    "rejection",
    "pull",
    "peer_echo",
    "login_failure",
    "canary",
    "audit_message",
    "alarm_notice",
    "alarm",
    "account",
)
"""In the order in which they can be dropped."""


def upgrade() -> None:
    op.execute("DELETE FROM meta WHERE name = 'schema'")
    # what ended before there was an audit trail is in none
    op.add_column("association", Column("audited", Boolean, nullable=False, server_default=true()))
    op.create_index("association_by_audit", "association", ["audited", "ended_at"])
    op.create_index("study_by_peer", "study", ["peer", "state"])
    op.create_index("instance_by_association", "instance", ["association"])
    op.add_column("finding", Column("code", String(32), nullable=False, server_default=""))
    op.create_table(
        "account",
        Column("id", ID, primary_key=True),
        Column("name", String(64), nullable=False, unique=True),
        Column("role", String(16), nullable=False),
        Column("password", Text, nullable=False),
        Column("disabled", Boolean, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("last_login_at", Float),
    )
    op.create_table(
        "alarm",
        Column("id", ID, primary_key=True),
        Column("key", String(128), nullable=False),
        Column("severity", String(16), nullable=False),
        Column("text", Text, nullable=False),
        Column("remedy", Text, nullable=False),
        Column("since", Float, nullable=False),
        Column("first_at", Float, nullable=False),
        Column("seen_at", Float, nullable=False),
        Column("raised_at", Float),
        Column("told_at", Float),
        Column("over_at", Float),
    )
    op.create_index("alarm_by_end", "alarm", ["over_at", "key"])
    op.create_table(
        "alarm_notice",
        Column("id", ID, primary_key=True),
        Column("channel", String(16), nullable=False),
        Column("body", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("due_at", Float, nullable=False),
        Column("reason", Text, nullable=False),
    )
    op.create_table(
        "audit_message",
        Column("id", ID, primary_key=True),
        Column("sink", String(16), nullable=False),
        Column("at", Float, nullable=False),
        Column("text", Text, nullable=False),
    )
    op.create_index("audit_message_by_sink", "audit_message", ["sink", "id"])
    op.create_table(
        "canary",
        Column("id", ID, primary_key=True),
        Column("route", String(64), nullable=False),
        Column("study_instance_uid", String(64), nullable=False),
        Column("at", Float, nullable=False),
        Column("ended_at", Float),
        Column("ok", Boolean),
        Column("reason", Text, nullable=False),
        Column("seconds", JSON, nullable=False),
        Column("outcome", JSON),
        Column("likeness", String(64), nullable=False),
        Column("removed", Boolean, nullable=False),
    )
    op.create_index("canary_by_end", "canary", ["ended_at"])
    op.create_index("canary_by_likeness", "canary", ["likeness", "ok"])
    op.create_index("canary_by_study", "canary", ["removed", "study_instance_uid"])
    op.create_table(
        "login_failure",
        Column("id", ID, primary_key=True),
        Column("account_key", String(16), nullable=False),
        Column("address", String(64), nullable=False),
        Column("at", Float, nullable=False),
    )
    op.create_index("login_failure_by_account", "login_failure", ["account_key", "at"])
    op.create_index("login_failure_by_address", "login_failure", ["address", "at"])
    op.create_table(
        "peer_echo",
        Column("peer", String(64), primary_key=True),
        Column("at", Float, nullable=False),
        Column("answered", Boolean, nullable=False),
        Column("seconds", Float),
        Column("error", Text, nullable=False),
    )
    op.create_table(
        "pull",
        Column("id", ID, primary_key=True),
        Column("peer", String(64), nullable=False),
        Column("wanted", JSON, nullable=False),
        Column("rules", JSON, nullable=False),
        Column("missing", JSON(none_as_null=True)),
        Column("route", String(64), nullable=False),
        Column("mode", String(16), nullable=False),
        Column("state", String(16), nullable=False),
        Column("reason", Text, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("ended_at", Float),
    )
    op.create_table(
        "rejection",
        Column("id", ID, primary_key=True),
        Column("at", Float, nullable=False),
        Column("rule", String(64), nullable=False),
        Column("calling_ae_title", String(16), nullable=False),
        Column("called_ae_title", String(16), nullable=False),
        Column("address", String(64), nullable=False),
        Column("times", Integer, nullable=False),
    )
    op.create_index("rejection_by_time", "rejection", ["at"])
    op.create_table(
        "tally",
        Column("name", String(32), primary_key=True),
        Column("labels", String(255), primary_key=True),
        Column("n", BigInteger, nullable=False),
        Column("total", Float, nullable=False),
    )
    op.create_table(
        "expected",
        Column("study_id", ID, ForeignKey("study.id"), primary_key=True),
        Column("instances", Integer),
        Column("since", Float),
        Column("asked_at", Float),
        Column("due_at", Float, nullable=False),
        Column("reason", Text, nullable=False),
    )
    op.create_table(
        "pull_study",
        Column("id", ID, primary_key=True),
        Column("pull_id", ID, ForeignKey("pull.id"), nullable=False),
        Column("study_instance_uid", String(64), nullable=False),
        Column("expected", Integer),
        Column("taken", Integer, nullable=False),
        Column("state", String(16), nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("due_at", Float, nullable=False),
        Column("moved_at", Float),
        Column("reason", Text, nullable=False),
        UniqueConstraint("pull_id", "study_instance_uid"),
    )
    op.create_index("pull_study_by_state", "pull_study", ["pull_id", "state", "due_at"])
    op.create_index("pull_study_by_uid", "pull_study", ["study_instance_uid", "moved_at"])
    op.create_table(
        "pulled",
        Column("study_id", ID, ForeignKey("study.id"), primary_key=True),
        Column("pull", Integer, primary_key=True),
        Column("route", String(64), nullable=False),
        Column("mode", String(16), nullable=False),
        Column("sent_at", Float),
    )
    op.create_table(
        "api_token",
        Column("account_id", ID, ForeignKey("account.id"), primary_key=True),
        Column("token_digest", String(64), nullable=False, unique=True),
        Column("created_at", Float, nullable=False),
    )
    op.create_table(
        "web_session",
        Column("id", ID, primary_key=True),
        Column("account_id", ID, ForeignKey("account.id"), nullable=False),
        Column("token_digest", String(64), nullable=False, unique=True),
        Column("created_at", Float, nullable=False),
        Column("seen_at", Float, nullable=False),
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    op.drop_column("finding", "code")
    op.drop_index("instance_by_association", "instance")
    op.drop_index("study_by_peer", "study")
    op.drop_index("association_by_audit", "association")
    op.drop_column("association", "audited")
    op.execute("DELETE FROM meta")
    op.execute("INSERT INTO meta VALUES ('schema', '2')")
