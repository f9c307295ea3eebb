"""What alembic runs: migrate on the connection it is given, inside that connection's transaction."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    render_as_batch=True,
    # SQLite does roll back DDL when the driver is kept from committing, as ours is; alembic assumes it doesn't.
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
