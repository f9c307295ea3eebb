"""Who leads: one row with an epoch that only grows. Every write of the loop looks at it first."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, insert, select, update

from .schema import leader

KEY: Final = "leader"
NO_END: Final = 9e15
"""On SQLite the lock on the daemon's file is the lease; it ends with the process, not with a time."""


class StaleEpoch(Exception):
    """Another daemon leads by now: this one must not write any more. Stop it, or find out why two run."""


def take(conn: Connection, holder: str, now: float) -> int:
    """Lead from here on: the epoch grows by one and shuts out whoever led before. Returns the epoch."""
    del now  # a lease that has no end needs no beginning
    row = conn.execute(select(leader.c.epoch).where(leader.c.key == KEY)).first()
    if row is None:
        conn.execute(insert(leader).values(key=KEY, holder=holder, epoch=1, lease_until=NO_END))
        return 1
    epoch = int(row.epoch) + 1
    conn.execute(
        update(leader).where(leader.c.key == KEY).values(holder=holder, epoch=epoch, lease_until=NO_END)
    )
    return epoch


def guard(conn: Connection, epoch: int) -> None:
    """Raise StaleEpoch unless `epoch` still leads. Called first in every transaction of the loop."""
    row = conn.execute(select(leader.c.epoch, leader.c.holder).where(leader.c.key == KEY)).first()
    if row is None or row.epoch != epoch:
        found = "no one" if row is None else f"{row.holder} at epoch {row.epoch}"
        raise StaleEpoch(f"this daemon led at epoch {epoch}, now {found} does")
