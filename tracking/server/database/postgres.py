"""Engines on a PostgreSQL server: transactions that write, transactions that read one snapshot."""

from __future__ import annotations

import os
import socket
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from .encoding import to_json
from .horizon import HORIZON, Horizon
from .prepared import ROWS_ARE_SHARED

DRIVERS = ("postgresql", "postgres", "postgresql+psycopg")
WRITERS = 16
"""Transactions that write at once in one process; further ones wait their turn."""
READERS_KEPT = 4
READERS_MAX = 16
CONNECT_SECONDS_MAX = 5
POOL_WAIT_SECONDS = 15.0
IDLE_IN_WRITE_SECONDS = 10
"""A process that was paused in the middle of a write loses it, and with it the rows it held."""
IDLE_IN_READ_SECONDS = 60
STATEMENT_SECONDS_MAX = 60
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
# The transaction gets its number with its first word: `horizon` needs it to be older than any event in it.
_BEGIN_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_current_xact_id()"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


def is_postgres(url: URL) -> bool:
    return url.drivername in DRIVERS


def normal(url: URL) -> URL:
    """The URL with the driver we bring. Raises ValueError without a database's name, or without the driver."""
    if not url.database:
        raise ValueError("the state needs a database's name: postgresql+psycopg://user:password@host/hostler")
    try:
        import psycopg  # noqa: F401  asked for by name only
    except ImportError as error:
        raise ValueError("a state in PostgreSQL needs: pip install 'hostler[postgres]'") from error
    return url.set(drivername="postgresql+psycopg")


def shown(url: URL) -> str:
    """The URL for people: without its password."""
    return url.render_as_string(hide_password=True)


def writer_engine(url: URL, horizon: Horizon) -> Engine:
    """Transactions that write, at READ COMMITTED: what must not race takes row locks or compares and sets."""
    return _engine(url, horizon, "write", _BEGIN_WRITE, IDLE_IN_WRITE_SECONDS, kept=WRITERS, most=WRITERS)


def reader_engine(url: URL, horizon: Horizon) -> Engine:
    """Snapshot readers; they cannot write, whatever the caller tries."""
    return _engine(
        url, horizon, "read", _BEGIN_READ, IDLE_IN_READ_SECONDS, kept=READERS_KEPT, most=READERS_MAX
    )


def connect_arguments(role: str, idle_seconds: int) -> dict[str, Any]:
    """What each connection of ours is made with; `pg_stat_activity` shows whose it is."""
    return {
        **_KEEPALIVES,
        "connect_timeout": CONNECT_SECONDS_MAX,
        "application_name": f"hostler-{role}:{os.getpid()}:{socket.gethostname()}"[:63],
        "options": f"-c idle_in_transaction_session_timeout={idle_seconds}s "
        f"-c statement_timeout={STATEMENT_SECONDS_MAX}s -c timezone=UTC",
    }


def _engine(
    url: URL, horizon: Horizon, role: str, begin: str, idle_seconds: int, *, kept: int, most: int
) -> Engine:
    engine = create_engine(
        url,
        # The driver must not begin transactions of its own; ours are begun by the listener below.
        isolation_level="AUTOCOMMIT",
        pool_size=kept,
        max_overflow=most - kept,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_pre_ping=role == "read",  # a write finds out by itself, and is tried again
        pool_use_lifo=True,
        connect_args=connect_arguments(role, idle_seconds),
        json_serializer=to_json,
    )

    def connected(_dbapi_connection: Any, record: Any) -> None:
        record.info[HORIZON] = horizon
        record.info[ROWS_ARE_SHARED] = role == "write"

    def begun(conn: Connection) -> None:
        raw: Any = conn.connection.driver_connection
        raw.execute(begin, prepare=False)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine
