"""Backup and restore of a daemon's state. A backup is taken while daemons run; a restore wants all of them stopped.

A restored database knows less than the clouds do: it launches nothing until every provider's own instances are in it.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine, func, select, text

from ... import __version__
from ...config import FleetConfig
from ...tracking.server.access import DEFAULT_WORKSPACE
from ...tracking.server.database import Database, copies, migrate
from ...tracking.server.database.copies import CopyFailed
from ...tracking.server.database.schema import server
from ..store import frozen, leader
from ..store.schema import leader as leader_table
from . import archive
from .identity import ID_KEY
from .lock import StateLock
from .paths import StatePaths, lock_path, state_paths
from .private_file import write_private

RESTORED: Final = (
    "restored from a backup of {when}: launches wait until every provider's instances were taken in"
)
_SIDE_FILES: Final = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Done:
    """What was copied, for people. `blobs` counts them."""

    file: Path
    engine: str
    revision: str
    bytes: int
    blobs: int


def revision(fleet: FleetConfig) -> tuple[str, str]:
    """Bring the database to the newest schema; its revisions before ("" for an empty one) and after."""
    url = fleet.daemon.state
    file = fleet.daemon.state_path()
    before = "" if file is not None and not file.is_file() else _facts(url)[0]
    Database.open(url, time.time).close()
    return before, migrate.head()


def back_up(fleet: FleetConfig, target: Path, *, blobs: bool) -> Done:
    """Write a backup to `target`. Raises CopyFailed; ValueError, OSError, SQLAlchemyError of the database."""
    url = fleet.daemon.state
    paths = StatePaths(fleet.daemon.data_dir.expanduser().absolute())
    with tempfile.TemporaryDirectory(prefix=".hostler-backup-", dir=target.absolute().parent) as folder:
        copy = Path(folder) / archive.DATABASE
        copies.take(url, copy)
        manifest = _described(url, copy, blobs=blobs)
        with archive.writing(target) as made:
            archive.add_manifest(made, manifest)
            made.add(copy, archive.DATABASE, recursive=False)
            if paths.server_key.exists():
                archive.add_bytes(made, archive.KEY, paths.server_key.read_bytes())
            number = archive.add_blobs(made, paths.blobs) if blobs else 0
    return Done(target, manifest.engine, manifest.revision, target.stat().st_size, number)


def restore(fleet: FleetConfig, source: Path, *, replace: bool) -> Done:
    """Put a backup in the place of the present state. Raises CopyFailed, StartError while a daemon runs."""
    url = fleet.daemon.state
    paths = state_paths(fleet.daemon.data_dir)
    with ExitStack() as stack:
        manifest, opened = stack.enter_context(archive.reading(source))
        _check(manifest, copies.engine_of(url))
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix=".hostler-restore-", dir=paths.root))
        )
        copy = folder / "copy.db"
        archive.extract(opened, archive.DATABASE, copy)
        if manifest.engine == "sqlite":
            stack.enter_context(StateLock(lock_path(fleet.daemon.state_path(), paths)))
            _replace_sqlite(fleet, copy, manifest, replace=replace)
        else:
            _replace_postgres(url, copy, manifest, replace=replace)
        _restore_key(opened, paths, folder)
        number = archive.extract_blobs(opened, paths.blobs) if manifest.blobs else 0
    return Done(source, manifest.engine, migrate.head(), source.stat().st_size, number)


def _facts(url: str) -> tuple[str, str]:
    """The revision a database is at and the id of its server; "" for what it does not have."""
    engine = create_engine(copies.plain(url))
    try:
        with engine.connect() as conn:
            at = migrate.current(conn)
            identity = None if at is None else conn.execute(_IDENTITY).scalar()
    finally:
        engine.dispose()
    return at or "", identity or ""


_IDENTITY: Final = select(server.c.value).where(server.c.key == ID_KEY)


def _described(url: str, copy: Path, *, blobs: bool) -> archive.Manifest:
    """Facts of the copy itself where it can be read, else of the database a moment later."""
    engine = copies.engine_of(url)
    at, identity = _facts(f"sqlite:///{copy}" if engine == "sqlite" else url)
    if not at:
        raise CopyFailed("the database is empty: no daemon has ever started on it")
    return archive.Manifest(engine, at, time.time(), __version__, identity, blobs)


def _check(manifest: archive.Manifest, engine: str) -> None:
    if manifest.engine != engine:
        raise CopyFailed(
            f"this is a backup of {manifest.engine}, daemon.state is {engine}: restore it to the kind it came from"
        )
    if manifest.revision > migrate.head():
        raise CopyFailed(
            f"this backup is of hostler {manifest.version}, which is newer: upgrade hostler first"
        )


def _why(manifest: archive.Manifest) -> str:
    when = datetime.fromtimestamp(manifest.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return RESTORED.format(when=when)


def _replace_sqlite(fleet: FleetConfig, copy: Path, manifest: archive.Manifest, *, replace: bool) -> None:
    """The copy is made ready beside the database and then takes its place: a crash leaves the one or the other."""
    file = fleet.daemon.state_path()
    assert file is not None
    file = file.expanduser().absolute()
    if file.exists() and not replace:
        raise CopyFailed(f"{file} is there already: add --replace to lose what is in it")
    copies.check_sqlite(copy)
    _freeze(f"sqlite:///{copy}", manifest)
    for suffix in _SIDE_FILES:
        Path(f"{copy}{suffix}").unlink(missing_ok=True)
        Path(f"{file}{suffix}").unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.restored")
    shutil.move(copy, beside)
    beside.replace(file)
    _sync(file.parent)


def _replace_postgres(url: str, copy: Path, manifest: archive.Manifest, *, replace: bool) -> None:
    newest_epoch = 0
    database = Database.open(url, time.time)
    try:
        with database.read() as conn:
            used = conn.execute(select(func.count()).select_from(server)).scalar_one()
            lease = leader.read(conn)
            others = conn.execute(_OTHERS).scalars().all()
        newest_epoch = lease.epoch if lease is not None else 0
        if lease is not None and lease.seconds_left > 0:
            raise CopyFailed(f"{lease.holder} leads on this database: stop every daemon first")
        if others:
            raise CopyFailed(
                f"still connected to this database: {', '.join(sorted(set(others)))}; stop it first"
            )
        if used and not replace:
            raise CopyFailed("there is a state in this database already: add --replace to lose it")
    finally:
        database.close()
    copies.put_back_postgres(url, copy, _afterwards(_why(manifest), newest_epoch))
    _freeze(url, manifest)


def _afterwards(why: str, epoch: int) -> Sequence[str]:
    """In the restore's own transaction: no daemon may see the old state without its freeze.

    The epoch goes beyond every one there was: a daemon of before that wakes now must not pass for the leader.
    """
    quoted = why.replace("'", "''")
    freeze = (
        f"VALUES ('{frozen.FROZEN_KEY}', '{quoted}') ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    )
    lead = f"SET epoch = greatest(epoch, {epoch}) + 1, lease_until = 0, holder = 'restore'"
    # All that is put into these is ours: no word of it comes from outside.
    return (
        f"INSERT INTO public.server (key, value) {freeze}",
        f"DELETE FROM public.server WHERE key LIKE '{frozen.COMPARED_PREFIX}%'",  # noqa: S608
        f"UPDATE public.{leader_table.name} {lead}",
    )


_OTHERS: Final = text(
    "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE 'hostler-%' AND application_name NOT LIKE :own"
).bindparams(own=f"hostler-%:{os.getpid()}:%")


def _freeze(url: str, manifest: archive.Manifest) -> None:
    """Migrates on the way, should the backup be of an older version."""
    database = Database.open(url, time.time)
    try:
        database.write(
            lambda conn: frozen.freeze(
                conn, DEFAULT_WORKSPACE, _why(manifest), database.clock(), actor="restore"
            )
        )
    finally:
        database.close()


def _restore_key(opened: tarfile.TarFile, paths: StatePaths, folder: Path) -> None:
    """The key belongs to the instances that the database knows; another's is kept beside it."""
    try:
        archive.extract(opened, archive.KEY, folder / archive.KEY)
    except CopyFailed:
        return  # it came from the environment when the backup was made
    key = (folder / archive.KEY).read_bytes()
    if paths.server_key.exists() and paths.server_key.read_bytes() != key:
        paths.server_key.replace(paths.server_key.with_suffix(".key.before-restore"))
    write_private(paths.server_key, key)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
