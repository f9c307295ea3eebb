"""Tokens: random secrets of which only the SHA-256 is kept."""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from ..database.prepared import Prepared
from ..database.schema import tokens
from .rules import BY_ROLE, Principal

PREFIX = "hostler"
"""Begins every secret, so that scanners for leaked secrets can know ours."""
SECRET_BYTES = 32
SECRET_CHARS_MAX = 256
KINDS = ("user", "agent", "task")

_ADD = Prepared(insert(tokens).values({column.name: bindparam(column.name) for column in tokens.c}))


def new_secret(kind: str) -> str:
    return f"{PREFIX}_{kind}_{secrets.token_urlsafe(SECRET_BYTES)}"


def hash_of(secret: str) -> str:
    # The secret is 256 random bits: a plain hash is enough, and a slow one would cost every request.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def issue(
    conn: Connection,
    *,
    workspace: str,
    kind: str,
    actor: str,
    role: str,
    now: float,
    instance_id: str | None = None,
    task_id: int | None = None,
    generation: int | None = None,
    expires_at: float | None = None,
) -> str:
    """Make a token and return its secret, which nobody can have again."""
    secret = new_secret(kind)
    register(
        conn,
        secret,
        workspace=workspace,
        kind=kind,
        actor=actor,
        role=role,
        now=now,
        instance_id=instance_id,
        task_id=task_id,
        generation=generation,
        expires_at=expires_at,
    )
    return secret


def register(
    conn: Connection,
    secret: str,
    *,
    workspace: str,
    kind: str,
    actor: str,
    role: str,
    now: float,
    instance_id: str | None = None,
    task_id: int | None = None,
    generation: int | None = None,
    expires_at: float | None = None,
) -> None:
    """Make the token of a secret that exists already. Raises ValueError for an unknown kind or role."""
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is none of {', '.join(KINDS)}")
    if kind == "user" and role not in BY_ROLE:
        raise ValueError(f"role {role!r} is none of {', '.join(BY_ROLE)}")
    row = {
        "hash": hash_of(secret),
        "workspace": workspace,
        "kind": kind,
        "actor": actor,
        "role": role,
        "instance_id": instance_id,
        "task_id": task_id,
        "generation": generation,
        "created_at": now,
        "expires_at": expires_at,
    }
    _ADD.run(conn, {**row, "revoked_at": None})


_BY_HASH = Prepared(select(tokens).where(tokens.c.hash == bindparam("secret_hash")))


def authenticate(conn: Connection, secret: str, now: float) -> Principal | None:
    """Who this secret stands for; None where it is unknown, expired or revoked."""
    if not 0 < len(secret) <= SECRET_CHARS_MAX:
        return None
    row = _BY_HASH.first(conn, {"secret_hash": hash_of(secret)})
    if row is None or row.revoked_at is not None:
        return None
    if row.expires_at is not None and row.expires_at <= now:
        return None
    return Principal(
        workspace=row.workspace,
        kind=row.kind,
        actor=row.actor,
        role=row.role,
        instance_id=row.instance_id,
        task_id=row.task_id,
        generation=row.generation,
        expires_at=row.expires_at,
    )


def revoke(
    conn: Connection,
    *,
    now: float,
    secret: str | None = None,
    instance_id: str | None = None,
    task_id: int | None = None,
) -> int:
    """Revoke one secret, or all tokens of an instance, or of a task. Returns how many; cached ones last 5 s more."""
    chosen = {
        tokens.c.hash: hash_of(secret) if secret is not None else None,
        tokens.c.instance_id: instance_id,
        tokens.c.task_id: task_id,
    }
    named = [column == value for column, value in chosen.items() if value is not None]
    if not named:
        raise ValueError("name a secret, an instance or a task")
    query = update(tokens).where(*named, tokens.c.revoked_at.is_(None)).values(revoked_at=now)
    return conn.execute(query).rowcount


def prune(conn: Connection, before: float) -> int:
    """Delete tokens that expired or were revoked before `before`."""
    over = or_(tokens.c.expires_at < before, tokens.c.revoked_at < before)
    return conn.execute(delete(tokens).where(over)).rowcount
