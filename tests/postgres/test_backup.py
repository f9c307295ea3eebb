"""Backup and restore on both databases: taken under load, put back whole, frozen until the clouds were seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostler.config import FleetConfig, parse_fleet
from hostler.fleet.cli import program
from hostler.fleet.daemon import StartError, archive, backup
from hostler.fleet.daemon.lock import StateLock
from hostler.fleet.daemon.secrets import server_key
from hostler.fleet.store import frozen, leader
from hostler.fleet.store.schema import leader as leader_table
from hostler.tracking.server import events
from hostler.tracking.server.access.bootstrap import ensure_workspace
from hostler.tracking.server.blobs import Blobs
from hostler.tracking.server.database import Database
from hostler.tracking.server.database.copies import CopyFailed
from hostler.tracking.server.database.schema import events as events_table
from hostler.tracking.server.database.schema import server
from record.world import Clock, digest_of
from sqlalchemy import Connection, func, insert, select, update


def fleet_of(url: str, folder: Path) -> FleetConfig:
    return parse_fleet(
        f'daemon: {{state: "{url}", data_dir: {folder}}}\n'
        "providers: {here: {type: local}}\npools: {p: {providers: [here]}}\n"
    )


@pytest.fixture
def fleet(state_url: str, tmp_path: Path) -> FleetConfig:
    made = fleet_of(state_url, tmp_path / "data")
    (tmp_path / "data").mkdir()
    server_key(tmp_path / "data" / "server.key", {})
    return made


@pytest.fixture
def filled(fleet: FleetConfig) -> Iterator[FleetConfig]:
    def fill(conn: Connection) -> None:
        ensure_workspace(conn, "default", 1.0)
        leader.take(conn, "me", 1.0)
        conn.execute(insert(server), [{"key": "id", "value": "s-one"}, {"key": "left", "value": "0"}])
        conn.execute(insert(server), {"key": "right", "value": "0"})
        frozen.mark_compared(conn, "here", 1.0)
        conn.execute(update(leader_table).values(lease_until=0.0))

    database = Database.open(fleet.daemon.state, Clock())
    database.write(fill)
    database.close()
    yield fleet


def facts(fleet: FleetConfig) -> dict[str, str]:
    database = Database.open(fleet.daemon.state, Clock())
    try:
        with database.read() as conn:
            return {row.key: row.value for row in conn.execute(select(server.c.key, server.c.value))}
    finally:
        database.close()


def test_a_backup_under_load_is_one_consistent_moment(filled: FleetConfig, tmp_path: Path) -> None:
    """Two rows always change together; a copy that shows them apart mixes two moments."""
    database = Database.open(filled.daemon.state, Clock())
    ended = threading.Event()

    def step(conn: Connection) -> None:
        for key in ("left", "right"):
            value = int(conn.execute(select(server.c.value).where(server.c.key == key)).scalar_one())
            conn.execute(update(server).where(server.c.key == key).values(value=str(value + 1)))
        events.emit(conn, workspace="default", kind="a.b", now=1.0, actor="me", message="x" * 200)

    def busy() -> None:
        while not ended.is_set():
            database.write(step)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        done = backup.back_up(filled, tmp_path / "state.backup", blobs=False)
    finally:
        ended.set()
        thread.join()
        database.close()
    assert (tmp_path / "state.backup").stat().st_mode & 0o777 == 0o600
    assert done.bytes > 0
    after = facts(filled)
    backup.restore(filled, tmp_path / "state.backup", replace=True)
    found = facts(filled)
    assert found["left"] == found["right"]
    assert int(found["left"]) <= int(after["left"])
    with_events = Database.open(filled.daemon.state, Clock())
    with with_events.read() as conn:
        number = conn.execute(select(func.count()).where(events_table.c.kind == "a.b")).scalar_one()
    with_events.close()
    assert number == int(found["left"])


def test_a_restored_state_launches_nothing_until_the_clouds_were_seen(
    filled: FleetConfig, tmp_path: Path
) -> None:
    backup.back_up(filled, tmp_path / "b", blobs=False)
    backup.restore(filled, tmp_path / "b", replace=True)
    database = Database.open(filled.daemon.state, Clock())
    with database.read() as conn:
        assert "restored from a backup" in frozen.reason(conn)
        assert frozen.compared(conn) == frozenset()
        told = [row.kind for row in conn.execute(select(events_table.c.kind).order_by(events_table.c.id))]
    database.close()
    assert told[-1] == "fleet.frozen"


def test_the_key_and_the_blobs_come_back_with_it(filled: FleetConfig, tmp_path: Path) -> None:
    data = filled.daemon.data_dir
    key = (data / "server.key").read_bytes()
    content = b"weights" * 1000
    digest = digest_of(content)
    database = Database.open(filled.daemon.state, Clock())
    blobs = Blobs(data / "blobs", database)
    blobs.path(digest).parent.mkdir(parents=True)
    blobs.path(digest).write_bytes(content)
    assert backup.back_up(filled, tmp_path / "b", blobs=True).blobs == 1
    blobs.path(digest).unlink()
    database.close()
    (data / "server.key").write_bytes(b"x" * 32)
    assert backup.restore(filled, tmp_path / "b", replace=True).blobs == 1
    assert blobs.path(digest).read_bytes() == content
    assert (data / "server.key").read_bytes() == key
    assert (data / "server.key.before-restore").read_bytes() == b"x" * 32


def test_a_state_that_is_there_is_not_lost_by_mistake(filled: FleetConfig, tmp_path: Path) -> None:
    backup.back_up(filled, tmp_path / "b", blobs=False)
    with pytest.raises(CopyFailed, match="--replace"):
        backup.restore(filled, tmp_path / "b", replace=False)
    assert "frozen" not in facts(filled)


def test_what_is_no_backup_is_refused_and_changes_nothing(filled: FleetConfig, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"something else" * 1000)
    with pytest.raises(CopyFailed, match="backup"):
        backup.restore(filled, tmp_path / "b", replace=True)
    with archive.writing(tmp_path / "c") as made:
        archive.add_bytes(made, "other", b"")
    with pytest.raises(CopyFailed, match=r"manifest\.json"):
        backup.restore(filled, tmp_path / "c", replace=True)
    assert "frozen" not in facts(filled)


def test_a_damaged_blob_is_told(filled: FleetConfig, tmp_path: Path) -> None:
    name = "ab" + "0" * 62
    with archive.writing(tmp_path / "b") as made:
        archive.add_bytes(made, f"blobs/ab/{name}", b"not that")
    import tarfile

    with tarfile.open(tmp_path / "b") as opened, pytest.raises(CopyFailed, match="damaged"):
        archive.extract_blobs(opened, tmp_path / "out")
    assert not (tmp_path / "out" / "ab" / name).exists()


def test_a_restore_waits_for_no_running_daemon_but_refuses(
    filled: FleetConfig, tmp_path: Path, state_url: str
) -> None:
    backup.back_up(filled, tmp_path / "b", blobs=False)
    if state_url.startswith("sqlite"):
        file = filled.daemon.state_path()
        assert file is not None
        with StateLock(file.parent / "daemon.lock"), pytest.raises(StartError, match="stop it first"):
            backup.restore(filled, tmp_path / "b", replace=True)
    else:
        database = Database.open(state_url, Clock())
        database.write(lambda conn: leader.acquire(conn, "other:1", 60.0))
        database.close()
        with pytest.raises(CopyFailed, match="other:1 leads"):
            backup.restore(filled, tmp_path / "b", replace=True)
    assert "frozen" not in facts(filled)


def test_no_epoch_from_before_a_restore_leads_after_it(
    new_postgres: Callable[[], str], tmp_path: Path
) -> None:
    fleet = fleet_of(new_postgres(), tmp_path / "data")
    database = Database.open(fleet.daemon.state, Clock())
    database.write(lambda conn: ensure_workspace(conn, "default", 1.0))
    database.write(lambda conn: leader.acquire(conn, "one", 0.0))
    backup.back_up(fleet, tmp_path / "b", blobs=False)
    for _ in range(5):
        newest = database.write(lambda conn: leader.acquire(conn, "later", 0.0))
    database.close()
    backup.restore(fleet, tmp_path / "b", replace=True)
    database = Database.open(fleet.daemon.state, Clock())
    assert newest is not None
    with pytest.raises(leader.StaleEpoch):
        database.write(lambda conn: leader.guard(conn, newest))
    again = database.write(lambda conn: leader.acquire(conn, "new", 9.0))
    assert again is not None
    assert again > newest
    database.close()


def test_a_backup_of_one_engine_is_not_put_into_the_other(
    new_postgres: Callable[[], str], tmp_path: Path
) -> None:
    small = fleet_of(f"sqlite:///{tmp_path}/small.db", tmp_path / "data")
    Database.open(small.daemon.state, Clock()).close()
    backup.back_up(small, tmp_path / "b", blobs=False)
    with pytest.raises(CopyFailed, match="backup of sqlite"):
        backup.restore(fleet_of(new_postgres(), tmp_path / "data"), tmp_path / "b", replace=True)


def test_migrate_tells_where_it_came_from(tmp_path: Path) -> None:
    fleet = fleet_of(f"sqlite:///{tmp_path}/new/state.db", tmp_path / "data")
    before, after = backup.revision(fleet)
    assert before == ""
    assert backup.revision(fleet) == (after, after)


def test_the_command_backs_up_migrates_and_restores(
    filled: FleetConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f'daemon: {{state: "{filled.daemon.state}", data_dir: {filled.daemon.data_dir}}}\n'
    config = tmp_path / "fleet.yaml"
    config.write_text(text + "providers: {here: {type: local}}\npools: {p: {providers: [here]}}\n")
    file = str(tmp_path / "b")
    assert program.run(["db", "migrate", "--config", str(config)]) == 0
    assert program.run(["db", "backup", file, "--config", str(config)]) == 0
    assert program.run(["db", "restore", file, "--config", str(config)]) == 1
    assert program.run(["db", "restore", file, "--replace", "--config", str(config), "-o", "json"]) == 0
    printed = capsys.readouterr()
    assert "already" in printed.out
    assert "add --replace" in printed.err
    assert '"engine"' in printed.out
    assert "frozen" in facts(filled)
