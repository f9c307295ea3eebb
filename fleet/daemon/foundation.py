"""What everything else stands on: configuration, lock, listener, database, identity."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ...config import FleetConfig, load_fleet
from ...tracking.server.access import admin_token_file
from ...tracking.server.database import Database
from ...tracking.server.database.migrate import SchemaTooNew
from ..store import instances
from . import secrets
from .boot_script import url_of
from .failures import StartError
from .identity import server_id
from .listener import bind, printed_address
from .live import LiveSettings
from .lock import StateLock
from .paths import StatePaths, lock_path, state_paths

_DIALLED: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  what to dial, not what to bind


@dataclass(frozen=True, slots=True)
class Foundation:
    """`url` is where instances reach the daemon, `local_url` where this machine's own CLI does."""

    paths: StatePaths
    lock: StateLock
    listener: socket.socket
    database: Database
    key: bytes
    server_id: str
    settings: LiveSettings
    url: str
    local_url: str
    clock: Callable[[], float] = time.time
    """On PostgreSQL the database's own, the same for all daemons on it."""


def lay(config_path: Path, stack: ExitStack) -> Foundation:
    """Raises ConfigError and StartError. What holds a resource is on `stack`, to be undone in reverse.

    The lock comes first: until it is ours, nothing of the state may be touched.
    """
    fleet = load_fleet(config_path)
    paths = _state_paths(fleet)
    lock = StateLock(lock_path(fleet.daemon.state_path(), paths))
    if fleet.daemon.state_path() is not None:  # on PostgreSQL several daemons may share all of it
        stack.enter_context(lock)
    listener = stack.enter_context(bind(fleet.daemon.listen_host(), fleet.daemon.listen_port()))
    database = _open_database(fleet, stack)
    key, identity = _identity(paths, database)
    settings = LiveSettings(
        config_path,
        fleet,
        server_id=identity,
        state_dir=paths.root,
        clock=database.clock,
        live_instances=lambda provider: _live_instances(database, provider),
    )
    stack.callback(settings.close)
    url, local_url = _urls(fleet, listener)
    return Foundation(
        paths, lock, listener, database, key, identity, settings, url, local_url, database.clock
    )


def _state_paths(fleet: FleetConfig) -> StatePaths:
    try:
        return state_paths(fleet.daemon.data_dir)
    except OSError as error:
        folder = fleet.daemon.data_dir
        raise StartError(
            f"the state folder {folder} can't be made: {error.strerror or error}; "
            "set daemon.state (or daemon.data_dir) in fleet.yaml to a place this user may write"
        ) from error


def _open_database(fleet: FleetConfig, stack: ExitStack) -> Database:
    try:
        database = Database.open(fleet.daemon.state, time.time)
    except (SchemaTooNew, SQLAlchemyError, OSError, ValueError) as error:
        raise StartError(f"the state {_shown(fleet.daemon.state)} can't be opened: {error}") from error
    stack.callback(database.close)
    return database


def _shown(state: str) -> str:
    """Without a password: this goes to a log."""
    with contextlib.suppress(ArgumentError):
        return make_url(state).render_as_string(hide_password=True)
    return state.partition(":")[0] + ":..."


def _identity(paths: StatePaths, database: Database) -> tuple[bytes, str]:
    """The server's key and id; the administrator's token is made on the way."""
    key, key_is_new = secrets.server_key(paths.server_key)
    now = database.clock()
    shared = database.signals is not None
    identity = database.write(
        lambda conn: server_id(conn, key, key_is_new=key_is_new, now=now, shared=shared)
    )
    admin_token_file(paths.admin_token, database, database.clock)
    return key, identity


def _live_instances(database: Database, provider: str) -> int:
    with database.read() as conn:
        return len(instances.live(conn, provider=provider))


def _urls(fleet: FleetConfig, listener: socket.socket) -> tuple[str, str]:
    host, port = printed_address(listener)
    url = url_of(fleet.daemon.url, port)
    # A certificate is for the public name, so with TLS this machine takes the same way as all others.
    return url, url if fleet.daemon.tls else f"http://{_DIALLED.get(host, host)}:{port}"
