"""What a database call can fail with beyond an error in the caller's own statements."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DBAPIError


class StorageFull(Exception):
    """The disk of the state is full or cannot be written: nothing of this call is stored. It recovers by itself."""


class StorageDown(StorageFull):
    """The database server can't be reached now. Like a full disk it is a 503 that passes by itself.

    Where the connection broke in the COMMIT itself, the message says that the call may be stored all the same.
    """


class WriterBusy(Exception):
    """Too many writes are waiting already: nothing of this call is stored. Send it again a little later."""


class DatabaseClosed(Exception):
    """The database is closed or closing: nothing of this call is stored."""


# pysqlite3 carries no error codes, so the texts are SQLite's own (sqlite3_errstr): they have been stable for 15 years.
_DRIVER_ERRORS = frozenset({"OperationalError", "DatabaseError"})
_STORAGE_TEXTS = (
    "database or disk is full",
    "disk i/o error",
    "attempt to write a readonly database",
    "unable to open database file",
)
_DISK_FULL = "53100"
_CONFLICTS = frozenset({"40001", "40P01", "23505", "55P03"})
"""Serialization, deadlock, a key that somebody else inserted between our look and our insert, a lock not had."""
_LOST_CLASSES = ("08", "57P", "25P03", "25P04")
"""Connection errors, a server that goes down, a transaction that was idle or open for too long."""
NOT_WRITABLE = "25006"
_DOWN = frozenset({"53200", "53300", "53400", NOT_WRITABLE})
"""Out of memory or connections, or a standby that takes no writes: the server is there and can't serve."""


def is_storage_error(error: BaseException) -> bool:
    """Whether the disk below refused, and not the statement."""
    cause: Any = _cause(error)
    if (code := sqlstate(error)) is not None:
        return code == _DISK_FULL
    if type(cause).__module__.partition(".")[0] == "psycopg" or type(cause).__name__ not in _DRIVER_ERRORS:
        return False
    text = str(cause).lower()
    return any(part in text for part in _STORAGE_TEXTS)


def is_conflict(error: BaseException) -> bool:
    """Whether another transaction was in the way, so that the same work may well succeed now (PostgreSQL)."""
    return sqlstate(error) in _CONFLICTS


def is_down(error: BaseException) -> bool:
    """Whether the connection to a PostgreSQL server was lost or could not be made."""
    cause = _cause(error)
    code = sqlstate(error)
    if code is not None:
        return code.startswith(_LOST_CLASSES) or code in _DOWN
    # Errors of the client library itself bear no code: refused, reset, closed in the middle.
    return type(cause).__module__.partition(".")[0] == "psycopg" and type(cause).__name__ in (
        "OperationalError",
        "InterfaceError",
        "ConnectionTimeout",
        "AdminShutdown",
    )


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's five-character code; None for errors of other origin."""
    found = getattr(_cause(error), "sqlstate", None)
    return str(found) if found else None


def _cause(error: BaseException) -> Any:
    return error.orig if isinstance(error, DBAPIError) else error
