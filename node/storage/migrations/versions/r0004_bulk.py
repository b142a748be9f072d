"""What a pull of many studies costs, and how far it has asked. Alembic keeps the number."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Integer

revision = "0004"
down_revision = "0003"

ID = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.add_column("job", Column("seconds", Float))
    op.add_column("pull", Column("asked", Integer))
    # None is "all was asked", which an earlier version did at once or not at all
    op.execute("UPDATE pull SET asked = 0 WHERE missing IS NULL")
    op.add_column("pull_study", Column("size", BigInteger, nullable=False, server_default="0"))
    op.add_column("pull_study", Column("seconds", Float, nullable=False, server_default="0"))
    op.add_column("pull_study", Column("ended_at", Float))
    op.create_index("pulled_by_pull", "pulled", ["pull"])
    op.create_table(
        "pull_wanted",
        Column("pull_id", ID, ForeignKey("pull.id"), primary_key=True),
        Column("wanted", JSON, nullable=False),
    )
    op.execute("INSERT INTO pull_wanted SELECT id, wanted FROM pull")


def downgrade() -> None:
    op.execute("UPDATE pull SET wanted = (SELECT w.wanted FROM pull_wanted w WHERE w.pull_id = pull.id)")
    op.drop_table("pull_wanted")
    op.drop_index("pulled_by_pull", "pulled")
    for name in ("ended_at", "seconds", "size"):
        op.drop_column("pull_study", name)
    op.drop_column("pull", "asked")
    op.drop_column("job", "seconds")
