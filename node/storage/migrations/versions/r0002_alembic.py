"""Alembic keeps the number of the tables, in place of a row of our own."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("DELETE FROM meta WHERE name = 'schema'")


def downgrade() -> None:
    op.execute("INSERT INTO meta VALUES ('schema', '2')")
