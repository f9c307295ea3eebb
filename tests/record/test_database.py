"""The one writer: what it acknowledged is there, what failed is not, and nobody fails for another's mistake."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hostler.tracking.server import events
from hostler.tracking.server.database import Database, DatabaseClosed, StorageFull, sqlite
from hostler.tracking.server.database.schema import server
from record.world import Clock, until
from sqlalchemy import Connection, event, func, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import Pool


@pytest.fixture
def database(state_url: str) -> Iterator[Database]:
    """On both engines, one after the other."""
    opened = Database.open(state_url, Clock())
    yield opened
    opened.close()


@pytest.fixture
def file_database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(f"sqlite:///{tmp_path}/deep/state.db", Clock())
    yield opened
    opened.close()


def put(key: str, value: str = "x") -> Any:
    def work(conn: Connection) -> str:
        conn.execute(insert(server), {"key": key, "value": value})
        return key

    return work


def keys(database: Database) -> set[str]:
    with database.read() as conn:
        return set(conn.execute(select(server.c.key)).scalars())


def test_what_a_write_function_returns_comes_back_and_is_stored(database: Database) -> None:
    assert database.write(put("a")) == "a"
    assert keys(database) == {"a"}


def test_writes_outlive_the_process_that_made_them(state_url: str) -> None:
    first = Database.open(state_url, Clock())
    first.write(put("a"))
    first.close()
    second = Database.open(state_url, Clock())
    assert keys(second) == {"a"}
    second.close()


def test_what_a_write_function_raises_is_raised_to_its_caller_and_undone(database: Database) -> None:
    def work(conn: Connection) -> None:
        put("a")(conn)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        database.write(work)
    assert keys(database) == set()


def test_a_statement_that_fails_undoes_only_its_own_function(database: Database) -> None:
    """All are queued while the writer is busy, so that they share one transaction."""
    go, begun = threading.Event(), threading.Event()

    def slow(conn: Connection) -> None:
        begun.set()
        go.wait(10)

    async def together() -> list[Any]:
        busy = asyncio.ensure_future(database.write_async(slow))
        await asyncio.to_thread(begun.wait, 10)
        waiting = [asyncio.ensure_future(database.write_async(put(key))) for key in ("a", "b", "a", "c")]
        await asyncio.sleep(0)
        go.set()
        await busy
        return await asyncio.gather(*waiting, return_exceptions=True)

    answers = asyncio.run(together())
    assert [type(answers[number]) for number in (1, 3)] == [str, str]
    assert {type(answers[number]) for number in (0, 2)} == {str, IntegrityError}
    assert keys(database) == {"a", "b", "c"}


def test_writes_from_many_threads_are_all_stored_once(database: Database) -> None:
    def work(thread: int) -> None:
        for number in range(50):
            database.write(put(f"{thread}-{number}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys(database)) == 16 * 50


def test_a_function_that_commits_by_itself_is_told_so_and_the_writer_lives_on(database: Database) -> None:
    with pytest.raises(Exception, match="neither commit nor roll back"):
        database.write(lambda conn: conn.exec_driver_sql("COMMIT").rowcount)
    assert database.write(put("after")) == "after"


def test_a_write_inside_a_write_is_refused_instead_of_waiting_for_ever(database: Database) -> None:
    with pytest.raises(RuntimeError, match="inside a write"):
        database.write(lambda conn: database.write(put("a")))


def test_a_reader_keeps_its_snapshot_while_others_write(database: Database) -> None:
    database.write(put("a"))
    with database.read() as conn:
        count = select(func.count()).select_from(server)
        assert conn.execute(count).scalar() == 1
        database.write(put("b"))
        assert conn.execute(count).scalar() == 1
    assert keys(database) == {"a", "b"}


def test_a_reader_cannot_write(database: Database) -> None:
    with database.read() as conn, pytest.raises(DBAPIError, match=r"readonly|read-only"):
        put("a")(conn)


def test_async_reads_and_writes_give_the_same(database: Database) -> None:
    async def both() -> int:
        await database.write_async(put("a"))
        return await database.read_async(
            lambda conn: conn.execute(select(func.count()).select_from(server)).scalar_one()
        )

    assert asyncio.run(both()) == 1


def test_closing_finishes_what_was_queued_and_refuses_the_rest(state_url: str) -> None:
    database = Database.open(state_url, Clock())

    async def queue_and_close() -> list[str]:
        waiting = [asyncio.ensure_future(database.write_async(put(str(number)))) for number in range(100)]
        await asyncio.sleep(0)
        await asyncio.to_thread(database.close)
        return list(await asyncio.gather(*waiting))

    assert len(asyncio.run(queue_and_close())) == 100
    with pytest.raises(DatabaseClosed):
        database.write(put("late"))
    assert not database.ok()
    database.close()


def test_listeners_hear_of_events_after_their_commit_and_of_nothing_else(database: Database) -> None:
    heard: list[int] = []

    def listen() -> None:
        with database.read() as conn:
            heard.append(events.last_id(conn, "default"))

    forget = database.events_changed.subscribe(listen)

    def emit(conn: Connection) -> int:
        return events.emit(conn, workspace="default", kind="a.b", now=1.0, actor="me", message="hello")

    database.write(put("no event"))
    number = database.write(emit)
    until(lambda: heard == [number])
    forget()
    database.write(emit)
    database.write(put("later"))
    assert heard == [number]


def test_a_listener_that_fails_stops_neither_the_writer_nor_the_others(database: Database) -> None:
    heard: list[str] = []
    database.events_changed.subscribe(lambda: 1 / 0)  # type: ignore[arg-type]
    database.events_changed.subscribe(lambda: heard.append("told"))
    database.write(
        lambda conn: events.emit(conn, workspace="w", kind="a.b", now=1.0, actor="me", message="hello")
    )
    until(lambda: heard == ["told"])
    assert database.write(put("after")) == "after"


def test_a_state_in_memory_or_on_an_unserved_database_is_refused_with_the_form_to_use() -> None:
    for url in ("sqlite://", "sqlite:///:memory:", "mysql://h/d", "postgresql+asyncpg://h/d", "nonsense"):
        with pytest.raises(ValueError, match="sqlite:////"):
            Database.open(url, Clock())
    with pytest.raises(ValueError, match=r"postgresql\+psycopg://user:password@host/hostler"):
        Database.open("postgresql+psycopg://h", Clock())


def test_an_sqlite_with_the_wal_reset_bug_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sqlite.warn_if_old(SimpleNamespace(sqlite_version="3.51.3", sqlite_version_info=(3, 51, 3)))  # type: ignore[arg-type]
        assert caplog.messages == []
        sqlite.warn_if_old(SimpleNamespace(sqlite_version="3.40.1", sqlite_version_info=(3, 40, 1)))  # type: ignore[arg-type]
    assert "3.40.1" in caplog.text
    assert "pysqlite3" in caplog.text


def test_the_file_syncs_at_each_commit_and_in_wal_mode(file_database: Database) -> None:
    def look(conn: Connection) -> tuple[Any, Any]:
        mode = conn.exec_driver_sql("PRAGMA journal_mode").scalar()
        return mode, conn.exec_driver_sql("PRAGMA synchronous").scalar()

    assert file_database.write(look) == ("wal", 2)


@contextmanager
def page_limit(database: Database) -> Iterator[dict[str, int]]:
    """Every connection made from here on, and the writer's present one, holds at most `pages` pages."""
    limit = {"pages": 0}

    def connected(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit['pages']}")

    def narrow(conn: Connection) -> None:
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
        limit["pages"] = pages + 4
        conn.exec_driver_sql(f"PRAGMA max_page_count = {limit['pages']}")

    event.listen(Pool, "connect", connected)
    try:
        database.write(narrow)
        yield limit
    finally:
        event.remove(Pool, "connect", connected)


def test_a_full_disk_refuses_what_needs_room_and_recovers_by_itself(tmp_path: Path) -> None:
    limit: dict[str, int] = {"pages": 2**30}

    def connected(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit['pages']}")

    event.listen(Pool, "connect", connected)
    database = Database.open(f"sqlite:///{tmp_path}/state.db", Clock())
    try:
        database.write(put("before"))
        with page_limit(database) as narrowed:
            limit["pages"] = narrowed["pages"]
            with pytest.raises(StorageFull, match="recovers by itself"):
                database.write(put("big", "x" * 200_000))
            assert not database.ok()
            assert keys(database) == {"before"}
            assert database.write(put("small")) == "small"
            assert database.ok()
            limit["pages"] = narrowed["pages"] = 2**30
            with pytest.raises(IntegrityError):
                database.write(put("small"))
        reopened = Database.open(f"sqlite:///{tmp_path}/state.db", Clock())
        reopened.write(put("big", "x" * 200_000))
        assert keys(reopened) == {"before", "small", "big"}
        reopened.close()
    finally:
        event.remove(Pool, "connect", connected)
        database.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_that_is_really_full_refuses_writes_until_space_returns(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        _fill_and_free(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _fill_and_free(disk: Path) -> None:
    database = Database.open(f"sqlite:///{disk}/state.db", Clock())
    try:
        acknowledged = {database.write(put("before"))}
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        with pytest.raises(StorageFull):
            for number in range(1000):
                acknowledged.add(database.write(put(f"full-{number}", "x" * 4000)))
        assert not database.ok()
        filler.unlink()
        acknowledged.add(database.write(put("after")))
        assert database.ok()
        assert keys(database) == acknowledged
    finally:
        database.close()
