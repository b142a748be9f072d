"""What all tables are made with: one `metadata`, and the columns that most of them have."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, String

metadata = MetaData()

ID = BigInteger().with_variant(Integer, "sqlite")
UID = String(64)


def key() -> Column[int]:
    return Column("id", ID, primary_key=True)


def ref(name: str, target: str) -> Column[int]:
    return Column(name, ID, ForeignKey(target), nullable=False)
