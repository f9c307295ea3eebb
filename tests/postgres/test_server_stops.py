"""The PostgreSQL server dies under load, as in a power cut: what was acknowledged is there, and writes go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes import postgres
from hostler.tracking.server.database import Database, StorageFull
from hostler.tracking.server.database.schema import server
from record.world import until
from sqlalchemy import Connection, insert, select

pytestmark = pytest.mark.slow
WRITERS = 6
STOPS, SOAK_STOPS = 3, 20


@pytest.fixture
def cluster(postgres_programs: Path) -> Iterator[postgres.Cluster]:
    with postgres.running_cluster(postgres_programs, postgres.DURABLE) as started:
        started.make_template()
        yield started


class Load:
    """Writers that note what was acknowledged, and never stop at an error."""

    def __init__(self, database: Database) -> None:
        self.acknowledged: set[str] = set()
        self.unknown: set[str] = set()
        self.errors: list[BaseException] = []
        self._database = database
        self._ended = threading.Event()
        self._threads = ThreadPoolExecutor(WRITERS)
        self._writers = [self._threads.submit(self._write, number) for number in range(WRITERS)]

    def _write(self, number: int) -> None:
        count = 0
        while not self._ended.is_set():
            count += 1
            key = f"{number}-{count}"

            def put(conn: Connection, key: str = key) -> None:
                conn.execute(insert(server), {"key": key, "value": "x" * 100})

            try:
                self._database.write(put)
            except StorageFull:
                self.unknown.add(key)
            except Exception as error:
                self.errors.append(error)
                return
            else:
                self.acknowledged.add(key)

    def end(self) -> None:
        self._ended.set()
        for writer in self._writers:
            writer.result(60)
        self._threads.shutdown()


def stop_under_load(cluster: postgres.Cluster, stops: int) -> None:
    database = Database.open(cluster.lend(), time.time)
    load = Load(database)
    try:
        for _ in range(stops):
            before = len(load.acknowledged)
            until(lambda before=before: len(load.acknowledged) > before + 50)  # type: ignore[misc]
            cluster.stop("immediate")
            cluster.start()
        before = len(load.acknowledged)
        until(lambda: len(load.acknowledged) > before + 50)
    finally:
        load.end()
    assert load.errors == []
    with database.read() as conn:
        stored = set(conn.execute(select(server.c.key)).scalars())
    assert load.acknowledged - stored == set()
    assert stored - load.acknowledged - load.unknown == set()
    assert database.ok()
    database.close()


def test_no_acknowledged_write_is_lost_when_the_server_dies_under_load(cluster: postgres.Cluster) -> None:
    stop_under_load(cluster, STOPS)


@pytest.mark.soak
def test_no_acknowledged_write_is_lost_however_often_the_server_dies(cluster: postgres.Cluster) -> None:
    stop_under_load(cluster, SOAK_STOPS)


def test_a_server_that_is_away_is_a_refusal_and_its_return_is_noticed(cluster: postgres.Cluster) -> None:
    database = Database.open(cluster.lend(), time.time)
    cluster.stop()
    try:
        assert not database.ok()
        with pytest.raises(StorageFull, match="can't be reached"):
            database.write(lambda conn: conn.execute(select(server.c.key)).first())
        with pytest.raises(StorageFull, match="can't be reached"), database.read() as conn:
            conn.execute(select(server.c.key)).first()
    finally:
        cluster.start()
    assert database.write(lambda conn: conn.execute(select(server.c.key)).first()) is None
    until(database.ok)
    database.close()
