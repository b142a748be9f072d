"""The tables of who uses the dashboard."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, String, Table, Text

from node.storage.tables.columns import ID, key, metadata, ref

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

# With what a program uses an account: one for each, and a new one takes the place of the former
api_token = Table(
    "api_token",
    metadata,
    Column("account_id", ID, ForeignKey("account.id"), primary_key=True),
    Column("token_digest", String(64), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
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
