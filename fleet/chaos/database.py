"""The real database code on a file in memory, its writer run by the caller, with a disk that can fail at COMMIT."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, event, make_url
from sqlalchemy.exc import OperationalError

from ...tracking.server.database import Database, sqlite
from ...tracking.server.database.broadcast import Broadcaster
from ...tracking.server.database.writer import Writer, _Job
from .weather import Weather

T = TypeVar("T")


class Inline(Writer):
    """The writer's own transactions, without its thread: one function at a time, in the caller."""

    def __init__(self, engine: Any, events_changed: Broadcaster) -> None:
        self._engine = engine
        self._events_changed = events_changed
        self._waiting = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self.storage_full = False
        self.busy = False

    def run(self, work: Callable[[Connection], Any]) -> Any:
        if self.busy:
            raise RuntimeError("a write inside a write would wait for itself")
        job, self.busy = _Job(work, None), True
        try:
            self._group([job])
        finally:
            self.busy = False
        if job.error is not None:
            raise job.error
        return job.result

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        """There is no thread to end."""


class Disk:
    """What COMMIT runs into."""

    def __init__(self, weather: Weather, clock: Callable[[], float]) -> None:
        self._weather, self._clock = weather, clock
        self.is_on = False
        self.trouble = ""
        """What the last commit ran into, for the trace."""

    def on_commit(self, conn: Connection) -> None:
        if not self.is_on:
            return
        if self._weather.hurts("disk-full", "", self._clock()):
            self.trouble = "disk full"
            raise _failed("database or disk is full")
        if self._weather.strikes("commit-unknown", 0.01):
            self.trouble = "made, but reported as failed"
            conn.connection.driver_connection.execute("COMMIT")  # type: ignore[union-attr]
            raise _failed("disk I/O error")


def _failed(text: str) -> OperationalError:
    return OperationalError("COMMIT", None, sqlite.driver().OperationalError(text))


class SimDatabase(Database):
    """`Database` as everything calls it. Opened again on the same file, it is what a restart finds."""

    def __init__(self, path: Path, clock: Callable[[], float], disk: Disk) -> None:
        self.url = make_url(f"sqlite:///{path}")
        self.clock = clock
        self.events_changed = Broadcaster()
        self._writing = sqlite.writer_engine(self.url)
        self._reading = sqlite.reader_engine(self.url)
        for engine in (self._writing, self._reading):
            event.listen(engine, "connect", _for_memory)
        event.listen(self._writing, "commit", disk.on_commit)
        self._inline = Inline(self._writing, self.events_changed)
        self._writer = self._inline

    @property
    def writing(self) -> bool:
        """Whether a transaction is open: no cloud may be called then."""
        return self._inline.busy

    async def write_async(self, work: Callable[[Connection], T]) -> T:
        return self.write(work)

    async def read_async(self, work: Callable[[Connection], T]) -> T:
        with self.read() as conn:
            return work(conn)

    def close(self) -> None:
        self._reading.dispose()
        self._writing.dispose()


def _for_memory(dbapi_connection: Any, _record: Any) -> None:
    # The file lies in memory and power never fails here: what a power cut does is proved with real processes.
    dbapi_connection.execute("PRAGMA synchronous = OFF")
