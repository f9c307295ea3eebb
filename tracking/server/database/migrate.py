"""Brings a database to the newest schema, in one transaction: after a crash it has the old schema or the new one."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x686F73746C6572
"""Number of the advisory lock: `hostler` in ASCII, so that no other program's is likely the same."""


class SchemaTooNew(Exception):
    """The database was written by a newer hostler; this one would not understand it. Upgrade the program instead."""


def head() -> str:
    """The newest revision: the highest number among the files of `migrations/versions`."""
    return max(path.name.split("_", 1)[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def current(conn: Connection) -> str | None:
    """The revision that the database stands at; None for an empty one."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(text("SELECT version_num FROM alembic_version")).scalar()


def to_head(engine: Engine) -> None:
    """Migrate. Two processes may do this at once: one has the lock from the look to the commit, the other waits."""
    with engine.begin() as conn:
        if conn.dialect.name == "postgresql":  # SQLite has its write lock since BEGIN IMMEDIATE
            conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        at = current(conn)
        if at == head():
            return  # the usual start: alembic isn't even imported
        if at is not None and at > head():
            raise SchemaTooNew(
                f"the database is at revision {at}, this program knows up to {head()}: upgrade hostler"
            )
        upgrade(conn, head())


def upgrade(conn: Connection, revision: str) -> None:
    """Run the migrations up to `revision` inside the transaction that is open on `conn`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = conn
    command.upgrade(config, revision)
