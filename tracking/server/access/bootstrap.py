"""The first token: an administrator's, in a file that only the server's user can read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, insert, select

from ..database import Database
from ..database.schema import tokens as table
from ..database.schema import workspaces
from . import tokens

DEFAULT_WORKSPACE = "default"
ADMIN_ACTOR = "admin"


def ensure_workspace(conn: Connection, name: str, now: float) -> None:
    """Have the workspace there."""
    if conn.execute(select(workspaces.c.name).where(workspaces.c.name == name)).first() is None:
        conn.execute(insert(workspaces), {"name": name, "created_at": now})


def admin_token_file(path: Path, db: Database, clock: Callable[[], float]) -> str:
    """The secret in `path`, which is made (0600, whole or not at all) at the first start and known to `db` after.

    The file is written before the database knows the token: a crash between the two leaves a file that the next
    start takes up, never a token whose secret is lost. A file whose token was revoked gets a new one.
    """
    found = _read(path)
    if found is not None and db.write(lambda conn: _known(conn, found, clock())):
        return found
    made = tokens.new_secret("user")
    _write(path, made)
    db.write(lambda conn: _known(conn, made, clock()))
    return made


def _known(conn: Connection, secret: str, now: float) -> bool:
    """Have the token in the database; False where it was revoked or ran out."""
    ensure_workspace(conn, DEFAULT_WORKSPACE, now)
    row = select(table.c.hash).where(table.c.hash == tokens.hash_of(secret))
    if conn.execute(row).first() is None:
        tokens.register(
            conn,
            secret,
            workspace=DEFAULT_WORKSPACE,
            kind="user",
            actor=ADMIN_ACTOR,
            role="admin",
            now=now,
        )
        return True
    return tokens.authenticate(conn, secret, now) is not None


def _read(path: Path) -> str | None:
    try:
        secret = path.read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return secret if secret.startswith(tokens.PREFIX + "_user_") else None


def _write(path: Path, secret: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
