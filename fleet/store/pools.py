"""State of pools: failed boots in a row, and the protected mode that they lead to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, literal_column, select, update

from ...tracking.server import events
from ...tracking.server.database import Prepared
from . import health
from .instances import ACTOR, BOOT_FAILED, BOOT_TIMED_OUT, offer_from_dict
from .schema import instances, pool_state

PROTECT_AFTER_FAILED_BOOTS: Final = 3
"""So many failed boots in a row, with no join in between, and the pool launches nothing until re-armed."""
_BOOT_REASONS: Final = (BOOT_FAILED, BOOT_TIMED_OUT)


_PROTECTED: Final = Prepared(
    select(pool_state.c.pool, pool_state.c.protected_reason).where(
        pool_state.c.workspace == bindparam("b_workspace"), pool_state.c.protected_since.is_not(None)
    )
)
_UNCOUNTED: Final = Prepared(
    select(instances)
    .where(
        instances.c.workspace == bindparam("b_workspace"),
        instances.c.reason.in_([literal_column(f"'{reason}'") for reason in _BOOT_REASONS]),
        instances.c.counted_at.is_(None),
        instances.c.joined_at.is_(None),
    )
    .order_by(instances.c.created_at, instances.c.id)
)


def get(conn: Connection, workspace: str, pool: str) -> dict[str, Any] | None:
    """The pool's row, or None while nothing has happened to it."""
    query = select(pool_state).where(pool_state.c.workspace == workspace, pool_state.c.pool == pool)
    row = conn.execute(query).mappings().first()
    return None if row is None else dict(row)


def protected(conn: Connection, workspace: str) -> dict[str, str]:
    """Pools that launch nothing, with why."""
    rows = _PROTECTED.all(conn, {"b_workspace": workspace})
    return {row.pool: row.protected_reason or "protected" for row in rows}


def uncounted_failures(conn: Connection, workspace: str) -> list[dict[str, Any]]:
    """Instances whose boot failed and that were not yet counted against their pool and offering."""
    return [row._asdict() for row in _UNCOUNTED.all(conn, {"b_workspace": workspace})]


def count_failure(conn: Connection, failed: dict[str, Any], now: float) -> bool:
    """Count one failed boot against its pool. True if the pool became protected by it."""
    conn.execute(update(instances).where(instances.c.id == failed["id"]).values(counted_at=now))
    workspace, pool = failed["workspace"], failed["pool"]
    in_a_row = _failures_in_a_row(conn, workspace, pool)
    _set(conn, workspace, pool, bootstrap_failures=in_a_row)
    row = get(conn, workspace, pool)
    if in_a_row < PROTECT_AFTER_FAILED_BOOTS or (row and row["protected_since"] is not None):
        return False
    offer = offer_from_dict(failed["offer"]).key
    protect(conn, workspace, pool, f"{in_a_row} instances in a row did not join, the last on {offer}", now)
    return True


def protect(
    conn: Connection, workspace: str, pool: str, reason: str, now: float, *, actor: str = ACTOR
) -> None:
    """Launch nothing in this pool until `rearm`; what runs goes on."""
    _set(conn, workspace, pool, protected_since=now, protected_reason=reason)
    message = f"pool {pool} launches nothing until it is re-armed: {reason}"
    _tell(conn, workspace, pool, "pool.protected", now, actor=actor, message=message)


def rearm(
    conn: Connection, workspace: str, pool: str, now: float, *, actor: str, providers: Iterable[str] = ()
) -> bool:
    """Let the pool launch again and forget its failures. False if it was not protected.

    What is held against `providers` and only a person can mend (quota, configuration, credentials) is forgotten
    too: whoever re-arms says that it was mended.
    """
    health.clear(conn, providers=providers, codes=health.MENDED_BY_PEOPLE)
    row = get(conn, workspace, pool)
    was_protected = row is not None and row["protected_since"] is not None
    _set(
        conn,
        workspace,
        pool,
        protected_since=None,
        protected_reason=None,
        bootstrap_failures=0,
        rearmed_at=now,
    )
    if was_protected:
        _tell(
            conn, workspace, pool, "pool.rearmed", now, actor=actor, message=f"pool {pool} may launch again"
        )
    return was_protected


def _failures_in_a_row(conn: Connection, workspace: str, pool: str) -> int:
    """Failed boots counted since the pool's last join or re-arming."""
    mine = (instances.c.workspace == workspace, instances.c.pool == pool)
    joined = conn.execute(select(func.max(instances.c.joined_at)).where(*mine)).scalar()
    row = get(conn, workspace, pool)
    since = max(joined or 0.0, (row or {}).get("rearmed_at") or 0.0)
    query = select(func.count()).where(
        *mine, instances.c.reason.in_(_BOOT_REASONS), instances.c.counted_at > since
    )
    return int(conn.execute(query).scalar_one())


def _set(conn: Connection, workspace: str, pool: str, **values: Any) -> None:
    changed = conn.execute(
        update(pool_state)
        .where(pool_state.c.workspace == workspace, pool_state.c.pool == pool)
        .values(**values)
    )
    if changed.rowcount == 0:
        conn.execute(insert(pool_state).values(workspace=workspace, pool=pool, **values))


def _tell(
    conn: Connection, workspace: str, pool: str, kind: str, now: float, *, actor: str, message: str
) -> None:
    events.emit(
        conn, workspace=workspace, kind=kind, now=now, actor=actor, message=message, data={"pool": pool}
    )
