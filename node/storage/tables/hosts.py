"""Which hosts share a database, and which of them has which duty."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, String, Table, Text

from node.storage.tables.columns import metadata

host = Table(
    "host",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("settings", String(64), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)

duty = Table(
    "duty",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("host", String(32), nullable=False),
    Column("until", Float, nullable=False),
)
