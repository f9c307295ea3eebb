"""Pieces of the daemon by themselves."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from functools import partial
from pathlib import Path

import pytest
from hostler.fleet.daemon import private_file, secrets
from hostler.fleet.daemon.boot_script import url_of
from hostler.fleet.daemon.failures import StartError
from hostler.fleet.daemon.identity import id_of_key, server_id
from hostler.fleet.daemon.listener import bind
from hostler.fleet.daemon.lock import StateLock
from hostler.fleet.daemon.notify import Notifier
from hostler.fleet.daemon.paths import client_file_path
from hostler.fleet.store import frozen
from hostler.tracking.server.database import Database


def test_accepted_connections_send_without_delay() -> None:
    """TCP_NODELAY needs a listener that names its protocol; without it each reply waits for an acknowledgement."""

    async def nodelay_of_accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raw = writer.get_extra_info("socket")
            found.set_result(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = bind("127.0.0.1", 0)
        server = await asyncio.start_server(accepted, sock=listener)
        async with server:
            _reader, writer = await asyncio.open_connection(*listener.getsockname())
            nodelay = await found
            writer.close()
        return nodelay

    assert asyncio.run(nodelay_of_accepted()) != 0


def test_a_join_token_is_the_same_at_every_call_and_differs_by_instance_and_server(tmp_path: Path) -> None:
    key, drawn = secrets.server_key(tmp_path / "server.key")
    assert drawn
    assert secrets.server_key(tmp_path / "server.key") == (key, False)
    other, _ = secrets.server_key(tmp_path / "other.key")
    tokens = {
        secrets.join_token(key, "h-a"),
        secrets.join_token(key, "h-b"),
        secrets.join_token(other, "h-a"),
    }
    assert len(tokens) == 3
    assert secrets.join_token(key, "h-a") in tokens


def test_a_damaged_server_key_is_told_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "server.key"
    path.write_bytes(b"short")
    with pytest.raises(StartError, match="put the right file back"):
        secrets.server_key(path)
    assert path.read_bytes() == b"short"


def test_a_new_database_beside_an_old_key_keeps_the_id_and_freezes_launches(tmp_path: Path) -> None:
    key = b"k" * 32
    for name, key_is_new, is_frozen in (("first", True, False), ("lost", False, True)):
        database = Database.open(f"sqlite:///{tmp_path / name}.db", lambda: 1.0)
        try:
            work = partial(server_id, key=key, key_is_new=key_is_new, now=1.0)
            assert database.write(work) == id_of_key(key)
            with database.read() as conn:
                assert bool(frozen.reason(conn)) is is_frozen
        finally:
            database.close()


def test_a_private_file_is_replaced_whole_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "secret"
    private_file.write_private(path, b"one")
    private_file.write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert not private_file.others_can_read(path)
    assert [file.name for file in path.parent.iterdir()] == ["secret"]


def test_the_lock_names_its_holder_and_is_free_after(tmp_path: Path) -> None:
    path = tmp_path / "daemon.lock"
    with StateLock(path) as holder:
        holder.describe("http://127.0.0.1:8480")
        with pytest.raises(StartError, match=r"another hostler runs on http://127\.0\.0\.1:8480, pid \d+"):
            StateLock(path).acquire()
    assert path.exists()
    with StateLock(path):
        pass


def test_systemd_is_told_ready_alive_and_stopping(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        notifier = Notifier(str(tmp_path / "notify"))
        notifier.ready("serves", 60.0)
        notifier.alive()
        notifier.stopping()
        told = [systemd.recv(4096).decode() for _ in range(3)]
    assert "READY=1" in told[0]
    assert "WATCHDOG_USEC=240000000" in told[0]
    assert told[1:] == ["WATCHDOG=1", "STOPPING=1"]


def test_without_systemd_nothing_is_told_and_nothing_fails() -> None:
    Notifier("").ready("serves", 1.0)
    Notifier("/nowhere/notify").alive()


def test_port_zero_in_the_url_becomes_the_bound_port() -> None:
    assert url_of("http://127.0.0.1:0", 4711) == "http://127.0.0.1:4711"
    assert url_of("https://fleet.example:8443/base", 4711) == "https://fleet.example:8443/base"
    assert url_of("http://[::1]:0", 4711) == "http://[::1]:4711"


def test_the_client_file_follows_its_variables(tmp_path: Path) -> None:
    assert client_file_path({"HOSTLER_CLIENT_FILE": "/x/y.json"}) == Path("/x/y.json")
    assert client_file_path({"XDG_CONFIG_HOME": "/conf"}) == Path("/conf/hostler/client.json")


def test_an_address_of_another_machine_is_refused_with_what_to_do() -> None:
    with pytest.raises(StartError, match=r"daemon\.listen"):
        bind("192.0.2.1", 0)


def test_two_daemons_threads_never_hold_one_lock(tmp_path: Path) -> None:
    path, got = tmp_path / "daemon.lock", []

    def grab() -> None:
        lock = StateLock(path)
        try:
            lock.acquire()
        except StartError:
            return
        got.append(lock)

    threads = [threading.Thread(target=grab) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert json.loads(path.read_text())["pid"]
    got[0].release()
