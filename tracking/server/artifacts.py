"""Artifacts: names that point to blobs, in versions 1, 2, ... per (task, name); a checkpoint is one of their types."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, select

from . import cursors, events
from .blobs import size_of
from .database.schema import artifacts, tasks
from .fence import Holding
from .problems import Problem

CHECKPOINT = "checkpoint"
VERSIONS_PER_TASK_MAX = 100_000
PAGE_MAX = 1000


def record(
    conn: Connection,
    task: Holding,
    *,
    name: str,
    type_: str,
    digest: str,
    step: int | None,
    metadata: dict[str, Any],
    keep: int | None,
    now: float,
) -> int:
    """Point `name` to a blob that is there, and return the version; the same record again answers the same version.

    Of a checkpoint, `keep` newest versions of this name stay, this one always. Raises Problem 409 `BLOB_MISSING`,
    `LIMIT`.
    """
    size = size_of(conn, digest)
    if size is None:
        raise Problem(
            409, "BLOB_MISSING", "the artifact's bytes are not here", f"blob {digest}", "PUT the blob first"
        )
    known = _known(conn, task, name, type_, digest, step)
    if known is not None:
        return known
    version = _next_version(conn, task, name)
    row = {
        "workspace": task.workspace,
        "task_id": task.task_id,
        "attempt": task.attempt,
        "generation": task.generation,
        "name": name,
        "type": type_,
        "version": version,
        "digest": digest,
        "size": size,
        "step": step,
        "metadata": metadata,
        "created_at": now,
    }
    conn.execute(insert(artifacts), row)
    if type_ == CHECKPOINT and keep is not None:
        _prune(conn, task.task_id, name, max(1, keep))
    _tell(conn, task, row, now)
    return version


def newest_checkpoint(conn: Connection, workspace: str, task_id: int) -> dict[str, Any] | None:
    """The newest complete checkpoint of any attempt; None before the first. Complete, for its bytes came first."""
    query = _of(workspace, task_id).where(artifacts.c.type == CHECKPOINT).order_by(artifacts.c.id.desc())
    row = conn.execute(query.limit(1)).mappings().first()
    return shown(dict(row)) if row is not None else None


def page(
    conn: Connection,
    workspace: str,
    task_id: int,
    *,
    cursor: str | None = None,
    limit: int = 100,
    name: str | None = None,
    type_: str | None = None,
) -> tuple[list[dict[str, Any]], str | None]:
    """Artifacts of a task in all their versions, newest first, and the next cursor."""
    limit = max(1, min(limit, PAGE_MAX))
    query = _of(workspace, task_id)
    if name is not None:
        query = query.where(artifacts.c.name == name)
    if type_ is not None:
        query = query.where(artifacts.c.type == type_)
    below = cursors.integer(cursor, "id")
    if below is not None:
        query = query.where(artifacts.c.id < below)
    rows = conn.execute(query.order_by(artifacts.c.id.desc()).limit(limit + 1)).mappings().all()
    more = cursors.encode({"id": rows[limit - 1]["id"]}) if len(rows) > limit else None
    return [shown(dict(row)) for row in rows[:limit]], more


def find(
    conn: Connection, workspace: str, task_id: int, name: str, version: int | None = None
) -> dict[str, Any] | None:
    """One version of a name, the newest where none is named; None where there is none."""
    query = _of(workspace, task_id).where(artifacts.c.name == name)
    if version is not None:
        query = query.where(artifacts.c.version == version)
    row = conn.execute(query.order_by(artifacts.c.version.desc()).limit(1)).mappings().first()
    return shown(dict(row)) if row is not None else None


def refers(conn: Connection, workspace: str, digest: str) -> bool:
    """Whether anything of this workspace refers to a blob: what a workspace doesn't know it may not read."""
    here = (
        exists().where(artifacts.c.digest == digest, artifacts.c.workspace == workspace)
        | exists().where(tasks.c.code_digest == digest, tasks.c.workspace == workspace)
    )  # fmt: skip
    return bool(conn.execute(select(here)).scalar())


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the wire's ArtifactRecord, with `generation`, `created_at`."""
    left_out = ("id", "workspace", "task_id")
    return {key: value for key, value in row.items() if key not in left_out}


def _of(workspace: str, task_id: int) -> Any:
    return select(artifacts).where(artifacts.c.workspace == workspace, artifacts.c.task_id == task_id)


def _known(
    conn: Connection, task: Holding, name: str, type_: str, digest: str, step: int | None
) -> int | None:
    query = select(artifacts.c.version).where(
        artifacts.c.workspace == task.workspace,
        artifacts.c.task_id == task.task_id,
        artifacts.c.name == name,
        artifacts.c.type == type_,
        artifacts.c.digest == digest,
        artifacts.c.step == step if step is not None else artifacts.c.step.is_(None),
        artifacts.c.attempt == task.attempt,
    )
    version = conn.execute(query.order_by(artifacts.c.version.desc()).limit(1)).scalar()
    return int(version) if version is not None else None


def _next_version(conn: Connection, task: Holding, name: str) -> int:
    # The newest of a name is never pruned, so the greatest version there is the greatest there ever was.
    query = select(func.max(artifacts.c.version)).where(
        artifacts.c.workspace == task.workspace,
        artifacts.c.task_id == task.task_id,
        artifacts.c.name == name,
    )
    version = int(conn.execute(query).scalar() or 0) + 1
    if version > VERSIONS_PER_TASK_MAX:
        raise Problem(
            409,
            "LIMIT",
            "this name has too many versions",
            f"{VERSIONS_PER_TASK_MAX} is the limit",
            "use another name, or checkpoints with `keep`",
        )
    return version


def _prune(conn: Connection, task_id: int, name: str, keep: int) -> None:
    of_name = (artifacts.c.task_id == task_id) & (artifacts.c.name == name) & (artifacts.c.type == CHECKPOINT)
    newest = (
        select(artifacts.c.version)
        .where(of_name)
        .order_by(artifacts.c.version.desc())
        .offset(keep - 1)
        .limit(1)
    )
    oldest_kept = conn.execute(newest).scalar()
    if oldest_kept is not None:
        conn.execute(delete(artifacts).where(of_name, artifacts.c.version < oldest_kept))


def _tell(conn: Connection, task: Holding, row: dict[str, Any], now: float) -> None:
    kind = "task.checkpoint" if row["type"] == CHECKPOINT else "task.artifact"
    at_step = f" at step {row['step']}" if row["step"] is not None else ""
    events.emit(
        conn,
        workspace=task.workspace,
        kind=kind,
        now=now,
        actor=task.actor,
        message=f"{row['name']} version {row['version']}{at_step} ({row['size']} bytes)",
        task_id=task.task_id,
        data={key: row[key] for key in ("name", "type", "version", "digest", "size", "step", "attempt")},
    )
