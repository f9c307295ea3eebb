"""`Database`: what everything else calls to read and write."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from . import migrate, postgres, sqlite
from .broadcast import Broadcaster
from .clock import ServerClock
from .errors import NOT_WRITABLE, StorageDown, is_down, sqlstate
from .horizon import Horizon
from .signals import EVENTS, Signals
from .transactions import Transactions
from .writer import Writer

T = TypeVar("T")
Clock = Callable[[], float]

READ_THREADS = 4
"""Threads of `read_async`; each holds one reader while it works."""

_FORMS = "the state is sqlite:////path/to/state.db or postgresql+psycopg://user:password@host/name"

_log = logging.getLogger(__name__)


class Database:
    """Writes that are durable when they return, reads of one snapshot. Make it with `open`; safe between threads."""

    signals: Signals | None = None
    """How servers on one PostgreSQL tell each other; None on SQLite, where there is one server."""

    def __init__(self, url: URL, clock: Clock, writing: Engine, reading: Engine) -> None:
        """On SQLite; `open` does the same for PostgreSQL."""
        self.url = url
        self.clock = clock
        self.events_changed = Broadcaster()
        """Told after each commit that wrote rows of `events`; `subscribe(callback)` returns its own undo."""
        self._writing = writing
        self._reading = reading
        self._writer: Writer | Transactions = self._make_writer()
        self._read_threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="hostler-read")

    def _make_writer(self) -> Writer | Transactions:
        return Writer(self._writing, self.events_changed)

    @classmethod
    def open(cls, url: str, clock: Clock) -> Database:
        """Open `sqlite:///path`, making its folder, or `postgresql+psycopg://user:password@host/name`, and migrate it.

        `clock` is for SQLite only: on PostgreSQL every server goes by the database's own clock, `database.clock`,
        unless it is not `time.time`. Raises ValueError, SchemaTooNew, OSError, SQLAlchemyError.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise ValueError(_FORMS) from error
        if postgres.is_postgres(parsed):
            return SharedDatabase.reach(postgres.normal(parsed), clock)
        if parsed.get_backend_name() != "sqlite":
            raise ValueError(_FORMS)
        sqlite.file_of(parsed).parent.mkdir(parents=True, exist_ok=True)
        sqlite.warn_if_old(sqlite.driver())
        writing = sqlite.writer_engine(parsed)
        _migrate(writing)
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
        """A connection on one consistent snapshot, taken at its first statement; it cannot write.

        Raises StorageDown while a database server can't be reached.
        """
        try:
            with self._reading.connect() as conn:
                yield conn
        except DBAPIError as error:
            if is_down(error) and sqlstate(error) != NOT_WRITABLE:  # whoever writes here has made a mistake
                raise StorageDown("the database can't be reached") from error
            raise

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
        except (SQLAlchemyError, StorageDown):
            _log.exception("the database cannot be read")
            return False
        return True

    def close(self) -> None:
        """Finish queued writes, then let go of the database. Calling it twice is fine."""
        self._writer.close()
        self._read_threads.shutdown()
        self._reading.dispose()
        self._writing.dispose()

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self.read() as conn:
            return work(conn)


class SharedDatabase(Database):
    """One PostgreSQL that several servers may share."""

    signals: Signals

    def __init__(self, url: URL, clock: Clock, writing: Engine, reading: Engine, horizon: Horizon) -> None:
        super().__init__(url, clock, writing, reading)
        server_clock = clock if isinstance(clock, ServerClock) else ServerClock()
        self.signals = Signals(url, self.events_changed, server_clock)
        horizon.look_again = self.signals.look_again
        self.signals.start()

    @classmethod
    def reach(cls, url: URL, clock: Clock) -> SharedDatabase:
        """Connect and migrate. Raises SchemaTooNew, SQLAlchemyError."""
        horizon = Horizon()
        writing = postgres.writer_engine(url, horizon)
        _migrate(writing)
        if clock is time.time:
            clock = ServerClock()
            with writing.connect() as conn:
                clock.compare(conn.connection.driver_connection)
        return cls(url, clock, writing, postgres.reader_engine(url, horizon), horizon)

    def close(self) -> None:
        self._writer.close()
        self.signals.close()
        super().close()

    def _make_writer(self) -> Transactions:
        return Transactions(self._writing, self.events_changed, lambda: self.signals.send(EVENTS))


def _migrate(engine: Engine) -> None:
    try:
        migrate.to_head(engine)
    except BaseException:
        engine.dispose()
        raise
