"""The one writer: a thread that runs functions in shared transactions and acknowledges after COMMIT.

While one transaction syncs to disk the next functions gather, so a slow disk makes larger groups, not a longer queue.
Each function has a savepoint of its own: what one raises is undone and raised to its caller alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from .broadcast import Broadcaster
from .errors import DatabaseClosed, StorageFull, WriterBusy, is_storage_error

GROUP_FUNCTIONS_MAX = 512
GROUP_SECONDS_MAX = 0.05
"""A group stops growing after so long, so that the first in it isn't kept waiting by the last."""
WAITING_MAX = 20_000

EVENTS_WRITTEN = "hostler_events_written"
"""Key in `Connection.info` that `events.emit` sets: tell the listeners after this commit."""

_log = logging.getLogger(__name__)


class _Job:
    """One function and what came of it. A thread waits on `ended`; an event loop is told through `waiter`."""

    __slots__ = ("ended", "error", "loop", "result", "waiter", "work")

    def __init__(self, work: Callable[[Connection], Any], waiter: asyncio.Future[Any] | None) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.waiter = waiter
        self.loop = waiter.get_loop() if waiter is not None else None
        # A bare lock: a concurrent.futures.Future would cost more than the statements of a small claim.
        self.ended = threading.Lock()
        self.ended.acquire()


class _Spoiled(Exception):
    """The whole transaction is gone, not just one function's part of it."""


class Writer:
    """Runs functions one after the other on one connection. `events_changed` is told after commits with events."""

    def __init__(self, engine: Engine, events_changed: Broadcaster) -> None:
        self._engine = engine
        self._events_changed = events_changed
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self.storage_full = False
        """Whether the last transaction failed for want of a disk that can be written."""
        self._thread = threading.Thread(target=self._run, name="hostler-writer", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Connection], Any]) -> Any:
        """Run `work`, wait for its COMMIT, return its result. Raises what it raises; WriterBusy, DatabaseClosed."""
        job = _Job(work, None)
        self._queue(job)
        job.ended.acquire()
        if job.error is not None:
            raise job.error
        return job.result

    def run_async(self, work: Callable[[Connection], Any]) -> asyncio.Future[Any]:
        """The same for the running event loop. Cancelling the future doesn't undo the write."""
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue(_Job(work, waiter))
        return waiter

    def _queue(self, job: _Job) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "a write inside a write would wait for itself: use the connection you were given"
            )
        if self._waiting.qsize() >= WAITING_MAX:
            raise WriterBusy(f"{WAITING_MAX} writes are waiting already; send it again a little later")
        with self._lock:  # nothing may be queued behind the end mark: nobody would answer it
            if self._closed:
                raise DatabaseClosed("the database is closed")
            self._waiting.put(job)

    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closed

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            jobs = [first]
            try:
                ended = self._group(jobs)
            except BaseException as error:  # noqa: BLE001  whatever it was, those who wait must hear of it
                _log.exception("the writer failed outside a function")
                ended = False
                for job in jobs:
                    job.result, job.error = None, error
            _answer(jobs)
            if ended:
                return

    def _group(self, jobs: list[_Job]) -> bool:
        """One transaction of `jobs[0]` and what arrives meanwhile, which is added to `jobs`. True at the end mark."""
        ended = False
        try:
            with self._engine.connect() as conn:
                ended = self._together(conn, jobs)
        except (_Spoiled, SQLAlchemyError) as error:
            self._apart(jobs, error)
        return ended

    def _together(self, conn: Connection, jobs: list[_Job]) -> bool:
        conn.info.pop(EVENTS_WRITTEN, None)
        transaction = conn.begin()
        raw: Any = conn.connection.driver_connection
        ended = False
        deadline = time.monotonic() + GROUP_SECONDS_MAX
        try:
            _in_savepoint(conn, raw, jobs[0])
            while len(jobs) < GROUP_FUNCTIONS_MAX and time.monotonic() < deadline:
                try:
                    job = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    ended = True
                    break
                jobs.append(job)
                _in_savepoint(conn, raw, job)
            transaction.commit()
        except BaseException:
            if ended:
                self._waiting.put(
                    None
                )  # the end mark was taken by a group that failed: keep it for the next round
            transaction.rollback()
            conn.invalidate()  # after an I/O error nothing this connection cached can be trusted
            raise
        self.storage_full = False
        if conn.info.pop(EVENTS_WRITTEN, False):
            self._events_changed.tell()
        return ended

    def _apart(self, jobs: list[_Job], cause: BaseException) -> None:
        """The shared transaction was lost: give each function one of its own, so that only the guilty one fails."""
        _log.warning("a transaction of %d was lost (%s); each is tried alone", len(jobs), cause)
        for job in jobs:
            job.result = job.error = None
            try:
                with self._engine.connect() as conn:
                    self._alone(conn, job)
            except (_Spoiled, SQLAlchemyError) as error:
                cause = error.__cause__ or error if isinstance(error, _Spoiled) else error
                job.result, job.error = None, self._named(cause)

    def _alone(self, conn: Connection, job: _Job) -> None:
        conn.info.pop(EVENTS_WRITTEN, None)
        transaction = conn.begin()
        try:
            _in_savepoint(conn, conn.connection.driver_connection, job)
            transaction.commit()
        except BaseException:
            transaction.rollback()
            conn.invalidate()
            raise
        self.storage_full = False
        if conn.info.pop(EVENTS_WRITTEN, False):
            self._events_changed.tell()

    def _named(self, error: BaseException) -> BaseException:
        if not is_storage_error(error):
            return error
        self.storage_full = True
        full = StorageFull("the disk of the state is full or read-only; free space, it recovers by itself")
        full.__cause__ = error
        return full


def _in_savepoint(conn: Connection, raw: Any, job: _Job) -> None:
    # Said to the driver itself: SQLAlchemy's nested transactions cost more than the statements of a small claim.
    raw.execute("SAVEPOINT job")
    try:
        job.result = job.work(conn)
    except BaseException as error:
        if is_storage_error(error) or not _still_open(raw):
            raise _Spoiled(str(error)) from error
        raw.execute("ROLLBACK TO SAVEPOINT job")
        raw.execute("RELEASE SAVEPOINT job")
        job.error = error
        return
    if not _still_open(raw):
        raise _Spoiled(
            "the transaction was ended from inside; a write function must neither commit nor roll back"
        )
    raw.execute("RELEASE SAVEPOINT job")


def _still_open(raw: Any) -> bool:
    return bool(getattr(raw, "in_transaction", True))


def _answer(jobs: list[_Job]) -> None:
    """Tell those who wait; each event loop is woken once for all of its own."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        if job.loop is None:
            job.ended.release()
        else:
            by_loop.setdefault(job.loop, []).append(job)
    for loop, its_jobs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_answer_in_loop, its_jobs)


def _answer_in_loop(jobs: list[_Job]) -> None:
    for job in jobs:
        waiter = job.waiter
        if waiter is None or waiter.done():
            continue  # nobody waits for it; the row is stored all the same
        if job.error is not None:
            waiter.set_exception(job.error)
        else:
            waiter.set_result(job.result)
