"""What a database call can fail with beyond an error in the caller's own statements."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DBAPIError


class StorageFull(Exception):
    """The disk of the state is full or cannot be written: nothing of this call is stored. It recovers by itself."""


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


def is_storage_error(error: BaseException) -> bool:
    """Whether the disk below refused, and not the statement. PostgreSQL says so with class 53 (53100 disk full)."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    if str(getattr(cause, "sqlstate", "") or "").startswith("53"):
        return True
    if type(cause).__name__ not in _DRIVER_ERRORS:
        return False
    text = str(cause).lower()
    return any(part in text for part in _STORAGE_TEXTS)
