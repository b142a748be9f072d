"""What Alembic runs: the changes, in the transaction that it was given."""

from __future__ import annotations

from alembic import context

from node.storage import schema

context.configure(connection=context.config.attributes["connection"], target_metadata=schema.metadata)
with context.begin_transaction():
    context.run_migrations()
