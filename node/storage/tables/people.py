"""The tables of who uses the dashboard."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Index, String, Table, Text

from node.storage.tables.columns import key, metadata, ref

account = Table(
    "account",
    metadata,
    key(),
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
    key(),
    ref("account_id", "account.id"),
    Column("token_digest", String(64), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)

login_failure = Table(
    "login_failure",
    metadata,
    key(),
    Column("account_key", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("at", Float, nullable=False),
)
Index("login_failure_by_account", login_failure.c.account_key, login_failure.c.at)
Index("login_failure_by_address", login_failure.c.address, login_failure.c.at)
