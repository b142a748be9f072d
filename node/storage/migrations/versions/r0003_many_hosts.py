"""What many hosts need that share a database: who they are, what each of them holds. Alembic keeps the number."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Column, Float, String, Text

revision = "0003"
down_revision = "0002"

HELD = ("association", "delivery")


def upgrade() -> None:
    for table in HELD:
        op.add_column(table, Column("host", String(32), nullable=False, server_default=""))
    op.create_table(
        "host",
        Column("id", String(32), primary_key=True),
        Column("name", String(64), nullable=False),
        Column("version", String(32), nullable=False),
        Column("settings", String(64), nullable=False),
        Column("roles", JSON, nullable=False),
        Column("reason", Text, nullable=False),
        Column("started_at", Float, nullable=False),
        Column("seen_at", Float, nullable=False),
    )
    op.create_table(
        "duty",
        Column("name", String(64), primary_key=True),
        Column("host", String(32), nullable=False),
        Column("until", Float, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("duty")
    op.drop_table("host")
    for table in HELD:
        op.drop_column(table, "host")
