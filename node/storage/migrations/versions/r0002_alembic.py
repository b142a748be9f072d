"""Alembic keeps the number of the tables, in place of a row of our own."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, Text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.drop_table("meta")


def downgrade() -> None:
    op.create_table("meta", Column("name", String(32), primary_key=True), Column("value", Text, nullable=False))
    op.execute("INSERT INTO meta VALUES ('schema', '2')")
