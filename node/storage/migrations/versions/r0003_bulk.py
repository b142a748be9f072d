"""What a pull of many studies costs, and how far it has asked. Alembic keeps the number."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("job", Column("seconds", Float))
    op.add_column("pull", Column("asked", Integer))
    # None is "all was asked", which an earlier version did at once or not at all
    op.execute("UPDATE pull SET asked = 0 WHERE missing IS NULL")
    op.add_column("pull_study", Column("size", BigInteger, nullable=False, server_default="0"))
    op.add_column("pull_study", Column("seconds", Float, nullable=False, server_default="0"))
    op.add_column("pull_study", Column("ended_at", Float))
    op.create_index("pulled_by_pull", "pulled", ["pull"])


def downgrade() -> None:
    op.drop_index("pulled_by_pull", "pulled")
    for name in ("ended_at", "seconds", "size"):
        op.drop_column("pull_study", name)
    op.drop_column("pull", "asked")
    op.drop_column("job", "seconds")
