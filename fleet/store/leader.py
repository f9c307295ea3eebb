"""Who leads: one row with an epoch that only grows. Every write of the loop looks at it first.

On SQLite the lock on the daemon's file is the lease: it ends with the process. On PostgreSQL the row holds a lease that
its holder renews, timed by the database's clock alone, so that no machine's clock can be wrong about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Double, bindparam, func, insert, literal, select, update

from ...tracking.server.database import Prepared
from .schema import leader

KEY: Final = "leader"
NO_END: Final = 9e15
"""On SQLite the lock on the daemon's file is the lease; it ends with the process, not with a time."""

# FOR SHARE: whoever takes the lead waits until the writes that looked before it are committed. Nothing on SQLite.
_LEADS: Final = Prepared(
    select(leader.c.epoch, leader.c.holder)
    .where(leader.c.key == bindparam("b_key"))
    .with_for_update(read=True)
)


class StaleEpoch(Exception):
    """Another daemon leads by now: this one must not write any more. Stop it, or find out why two run."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What the row says. `seconds_left` is measured by the database; below zero the lease is over."""

    holder: str
    epoch: int
    seconds_left: float


def take(conn: Connection, holder: str, now: float) -> int:
    """Lead from here on: the epoch grows by one and shuts out whoever led before. Returns the epoch.

    For SQLite, where the caller holds the lock on the daemon's file.
    """
    del now  # a lease that has no end needs no beginning
    row = conn.execute(select(leader.c.epoch).where(leader.c.key == KEY)).first()
    return _install(conn, holder, None if row is None else int(row.epoch), literal(NO_END, Double))


def acquire(conn: Connection, holder: str, ttl_seconds: float) -> int | None:
    """Lead for `ttl_seconds` if nobody else does; the epoch, or None while another's lease lasts (PostgreSQL)."""
    query = select(leader.c.epoch, (leader.c.lease_until - _now()).label("left")).where(leader.c.key == KEY)
    row = conn.execute(query.with_for_update(skip_locked=True)).first()
    if row is None and read(conn) is not None:
        return None  # its holder, or another who wants it, has the row at this moment
    if row is not None and row.left > 0:
        return None
    return _install(conn, holder, None if row is None else int(row.epoch), _now() + ttl_seconds)


def renew(conn: Connection, epoch: int, ttl_seconds: float) -> bool:
    """Lead for `ttl_seconds` from now on. False: another leads by now; stop everything at once."""
    change = update(leader).where(leader.c.key == KEY, leader.c.epoch == epoch)
    return conn.execute(change.values(lease_until=_now() + ttl_seconds)).rowcount == 1


def release(conn: Connection, epoch: int) -> None:
    """End our lease now, so that nobody has to wait for its time to run out."""
    change = update(leader).where(leader.c.key == KEY, leader.c.epoch == epoch)
    conn.execute(change.values(lease_until=0.0))


def read(conn: Connection) -> Lease | None:
    """Who leads, or led last; None before the first (PostgreSQL)."""
    columns = (leader.c.holder, leader.c.epoch, (leader.c.lease_until - _now()).label("left"))
    row = conn.execute(select(*columns).where(leader.c.key == KEY)).first()
    return None if row is None else Lease(row.holder, int(row.epoch), float(row.left))


def guard(conn: Connection, epoch: int) -> None:
    """Raise StaleEpoch unless `epoch` still leads. Called first in every transaction of the loop."""
    row = _LEADS.first(conn, {"b_key": KEY})
    if row is None or row.epoch != epoch:
        found = "no one" if row is None else f"{row.holder} at epoch {row.epoch}"
        raise StaleEpoch(f"this daemon led at epoch {epoch}, now {found} does")


def _install(conn: Connection, holder: str, before: int | None, until: ColumnElement[Any]) -> int:
    """Write the row with the next epoch. Two first ones at once: the key lets one of them in."""
    epoch = (before or 0) + 1
    values = {"holder": holder, "epoch": epoch, "lease_until": until}
    if before is None:
        conn.execute(insert(leader).values(key=KEY, **values))
    else:
        conn.execute(update(leader).where(leader.c.key == KEY).values(**values))
    return epoch


def _now() -> ColumnElement[float]:
    """PostgreSQL's clock at this moment, not at the transaction's start: it may have waited for the row."""
    return func.extract("epoch", func.clock_timestamp()).cast(Double)
