"""Engines on one SQLite file: one connection that writes, a few that read snapshots.

All that only SQLite understands stands in this module.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from .encoding import to_json

BUSY_TIMEOUT_SECONDS = 5.0
"""How long a statement waits for another process (a backup, a shell) that holds the file."""
READERS_MAX = 16
CACHE_KIBIBYTES = 16 * 1024
WAL_BYTES_KEPT = 64 * 1024**2
VERSION_SAFE = (3, 51, 3)
"""Older ones can lose pages when the WAL is reset under a reader."""

_log = logging.getLogger(__name__)


def driver() -> ModuleType:
    """pysqlite3 where it is installed (it carries a fixed SQLite), else Python's own."""
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        return sqlite3
    return dbapi2  # type: ignore[no-any-return]


def warn_if_old(module: ModuleType) -> None:
    if tuple(module.sqlite_version_info) < VERSION_SAFE:
        _log.warning(
            "SQLite %s can lose data when its WAL is reset (fixed in %s); pip install pysqlite3 for a fixed build",
            module.sqlite_version,
            ".".join(map(str, VERSION_SAFE)),
        )


def file_of(url: URL) -> Path:
    """The database's file. Raises ValueError for a database in memory: a reader would see another one."""
    if not url.database or url.database == ":memory:":
        raise ValueError("the state needs a file: sqlite:////var/lib/hostler/state.db")
    return Path(url.database)


def writer_engine(url: URL) -> Engine:
    """One connection; each transaction takes the write lock at its start, so it cannot fail half-way for it."""
    engine = _engine(url, pool_size=1, max_overflow=0)
    _on_connect(engine, _WRITER_PRAGMAS)
    event.listen(engine, "begin", lambda conn: _say(conn, "BEGIN IMMEDIATE"))
    return engine


def reader_engine(url: URL) -> Engine:
    """Snapshot readers; they cannot write, whatever the caller tries."""
    engine = _engine(url, pool_size=4, max_overflow=READERS_MAX - 4)
    _on_connect(engine, _READER_PRAGMAS)
    event.listen(engine, "begin", lambda conn: _say(conn, "BEGIN"))
    return engine


_COMMON_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_SECONDS * 1000)}",
    f"PRAGMA cache_size = -{CACHE_KIBIBYTES}",
    "PRAGMA temp_store = MEMORY",
)
_WRITER_PRAGMAS = (
    *_COMMON_PRAGMAS,
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # NORMAL loses acknowledged writes in a power cut
    "PRAGMA foreign_keys = ON",
    f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}",
)
_READER_PRAGMAS = (*_COMMON_PRAGMAS, "PRAGMA query_only = ON")


def _engine(url: URL, *, pool_size: int, max_overflow: int) -> Engine:
    return create_engine(
        url,
        module=driver(),
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=max_overflow,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_SECONDS},
        json_serializer=to_json,
        # Transactions are begun by the listeners above; the pool's own rollback ends what a reader left open.
    )


def _on_connect(engine: Engine, pragmas: tuple[str, ...]) -> None:
    def connected(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # the driver must not begin transactions of its own
        for pragma in pragmas:
            dbapi_connection.execute(pragma)

    event.listen(engine, "connect", connected)


def _say(conn: Connection, statement: str) -> None:
    conn.exec_driver_sql(statement)
