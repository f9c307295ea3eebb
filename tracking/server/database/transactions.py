"""Writes on PostgreSQL: a transaction each, many at once, tried again when another was in the way."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from .broadcast import Broadcaster
from .errors import (
    DatabaseClosed,
    StorageDown,
    StorageFull,
    WriterBusy,
    is_conflict,
    is_down,
    is_storage_error,
)
from .postgres import WRITERS
from .writer import EVENTS_WRITTEN, WAITING_MAX

CONFLICTS_MAX: Final = 12
"""Times one write is tried again because another transaction was in its way."""
CONFLICT_WAIT_SECONDS: Final = 0.002
CONFLICT_WAIT_SECONDS_MAX: Final = 0.2
SAME_KEY_MAX: Final = 3
"""A key that is taken at each of so many tries is the caller's own mistake, and no race."""
DOWN_SECONDS_MAX: Final = 5.0
"""So long a write waits for a server that restarts; after that it is refused, and its sender tries again."""
DOWN_WAIT_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)


class Transactions:
    """Does what `Writer` does. `announce` is called after commits with events, from the thread that committed."""

    def __init__(
        self, engine: Engine, events_changed: Broadcaster, announce: Callable[[], None] = lambda: None
    ) -> None:
        self._engine = engine
        self._events_changed = events_changed
        self._announce = announce
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="hostler-write")
        self._inside = threading.local()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._under_way = 0
        self._closed = False
        self.storage_full = False

    def run(self, work: Callable[[Connection], Any]) -> Any:
        """Run `work`, COMMIT, return its result. Raises what it raises; StorageFull, WriterBusy, DatabaseClosed."""
        if getattr(self._inside, "yes", False):
            raise RuntimeError(
                "a write inside a write would wait for itself: use the connection you were given"
            )
        self._enter()
        try:
            return self._run(work)
        finally:
            self._leave()

    def run_async(self, work: Callable[[Connection], Any]) -> asyncio.Future[Any]:
        """The same for the running event loop. Cancelling the future doesn't undo the write."""
        self._enter()

        def job() -> Any:
            try:
                return self._run(work)
            finally:
                self._leave()

        return asyncio.wrap_future(self._threads.submit(job))

    def alive(self) -> bool:
        return not self._closed

    def close(self) -> None:
        """Finish what was begun, then take nothing more."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._under_way == 0)
        self._threads.shutdown()

    def _enter(self) -> None:
        with self._lock:
            if self._closed:
                raise DatabaseClosed("the database is closed")
            if self._under_way >= WAITING_MAX:
                raise WriterBusy(f"{WAITING_MAX} writes are waiting already; send it again a little later")
            self._under_way += 1

    def _leave(self) -> None:
        with self._idle:
            self._under_way -= 1
            self._idle.notify_all()

    def _run(self, work: Callable[[Connection], Any]) -> Any:
        give_up_at = time.monotonic() + DOWN_SECONDS_MAX
        conflicts = 0
        while True:
            try:
                return self._once(work)
            except _Again as again:
                error = again.cause
            if is_conflict(error):
                conflicts += 1
                if conflicts > (SAME_KEY_MAX if _same_key(error) else CONFLICTS_MAX):
                    raise error
                time.sleep(_pause_seconds(conflicts))
            elif time.monotonic() >= give_up_at:
                raise StorageDown("the database can't be reached: nothing of this call is stored") from error
            else:
                time.sleep(DOWN_WAIT_SECONDS)

    def _once(self, work: Callable[[Connection], Any]) -> Any:
        """One transaction. Raises _Again where nothing was done and a new try makes sense."""
        try:
            conn = self._engine.connect()
        except PoolTimeout as error:
            raise WriterBusy("too many writes are under way; send it again a little later") from error
        except SQLAlchemyError as error:
            raise self._judged(error) from error
        with conn:
            result = self._work(conn, work)
            self._commit(conn)
            told = conn.info.pop(EVENTS_WRITTEN, False)
        self.storage_full = False
        if told:
            self._events_changed.tell()
            self._announce()
        return result

    def _work(self, conn: Connection, work: Callable[[Connection], Any]) -> Any:
        conn.info.pop(EVENTS_WRITTEN, None)
        self._inside.yes = True
        try:
            conn.begin()
            result = work(conn)
            _check_open(conn)
        except BaseException as error:  # noqa: BLE001  whatever it was, the transaction must not stay open
            _undo(conn, error)
            raise self._judged(error) from error.__cause__
        finally:
            self._inside.yes = False
        return result

    def _commit(self, conn: Connection) -> None:
        try:
            conn.commit()
        except Exception as error:
            _undo(conn, error)
            if is_down(error):
                # Never run again: it may have been applied, and only the sender knows whether that matters.
                raise StorageDown(
                    "the connection to the database broke in the commit: whether this call is stored is unknown"
                ) from error
            raise self._judged(error) from error

    def _judged(self, error: BaseException) -> BaseException:
        """What to raise for an error of a transaction that was not committed."""
        if is_conflict(error) or is_down(error):
            return _Again(error)
        if is_storage_error(error):
            self.storage_full = True
            full = StorageFull("the disk of the database is full; free space, it recovers by itself")
            full.__cause__ = error
            return full
        return error


class _Again(Exception):
    """Nothing was done; `cause` says why."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _same_key(error: BaseException) -> bool:
    return getattr(getattr(error, "orig", error), "sqlstate", None) == "23505"


def _pause_seconds(conflicts: int) -> float:
    """Full jitter: who met once must not meet again in step."""
    most = min(CONFLICT_WAIT_SECONDS_MAX, CONFLICT_WAIT_SECONDS * 2.0**conflicts)
    return random.uniform(0.0, most)  # noqa: S311  not a secret


def _check_open(conn: Connection) -> None:
    """An error that `work` swallowed has spoiled the transaction: its COMMIT would silently be a ROLLBACK."""
    raw: Any = conn.connection.driver_connection
    status = raw.info.transaction_status.name
    if status == "INERROR":
        raise RuntimeError(
            "a write function went on after a statement had failed: nothing of it can be stored"
        )
    if status != "INTRANS":
        raise RuntimeError(
            "the transaction was ended from inside; a write function must neither commit nor roll back"
        )


def _undo(conn: Connection, error: BaseException) -> None:
    if is_down(error):
        conn.invalidate()
        return
    try:
        conn.rollback()
    except SQLAlchemyError:
        _log.debug("the connection was lost on the way", exc_info=True)
        conn.invalidate()
