"""`Database`: what everything else calls to read and write."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from . import migrate, sqlite
from .broadcast import Broadcaster
from .writer import Writer

T = TypeVar("T")
Clock = Callable[[], float]

READ_THREADS = 4
"""Threads of `read_async`; each holds one reader while it works."""

_log = logging.getLogger(__name__)


class Database:
    """One writer, many snapshot readers. Make it with `Database.open`; safe between threads."""

    def __init__(self, url: URL, clock: Clock, writing: Engine, reading: Engine) -> None:
        self.url = url
        self.clock = clock
        self.events_changed = Broadcaster()
        """Told after each commit that wrote rows of `events`; `subscribe(callback)` returns its own undo."""
        self._writing = writing
        self._reading = reading
        self._writer = Writer(writing, self.events_changed)
        self._read_threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="hostler-read")

    @classmethod
    def open(cls, url: str, clock: Clock) -> Database:
        """Open `sqlite:///path`, making its folder, and migrate it. Raises ValueError, SchemaTooNew, OSError."""
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            raise ValueError(
                f"state: {parsed.get_backend_name()!r} is not served yet; use sqlite:////path/to/state.db"
            )
        sqlite.file_of(parsed).parent.mkdir(parents=True, exist_ok=True)
        sqlite.warn_if_old(sqlite.driver())
        writing = sqlite.writer_engine(parsed)
        try:
            migrate.to_head(writing)
        except BaseException:
            writing.dispose()
            raise
        return cls(parsed, clock, writing, sqlite.reader_engine(parsed))

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work(conn)` in the writer and return its result when it is durable.

        `work` does database work only: no network, no commit, nothing that may not happen twice (it is run again
        if the shared transaction is lost). What it raises is raised here and undone. Also raises StorageFull,
        WriterBusy, DatabaseClosed.
        """
        result: T = self._writer.run(work)
        return result

    async def write_async(self, work: Callable[[Connection], T]) -> T:
        """`write` for the event loop. Cancelling the wait doesn't undo the write."""
        result: T = await self._writer.run_async(work)
        return result

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection on one consistent snapshot, taken at its first statement; it cannot write."""
        with self._reading.connect() as conn:
            yield conn

    async def read_async(self, work: Callable[[Connection], T]) -> T:
        """Run `work(conn)` on a snapshot in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, self._read, work)

    def ok(self) -> bool:
        """Whether reads work and the last write found room."""
        if not self._writer.alive() or self._writer.storage_full:
            return False
        try:
            with self.read() as conn:
                conn.execute(text("SELECT 1"))
        except SQLAlchemyError:
            _log.exception("the database cannot be read")
            return False
        return True

    def close(self) -> None:
        """Finish queued writes, then let go of the file. Calling it twice is fine."""
        self._writer.close()
        self._read_threads.shutdown()
        self._reading.dispose()
        self._writing.dispose()

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self.read() as conn:
            return work(conn)
